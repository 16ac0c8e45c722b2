//! From text to [`Expr`]: the `cel` crate's parser, our macros.

use crate::ast::{Entry, Expr, Kind, Literal, StructField};
use crate::macros;
use crate::source::{Issue, Issues};
use cel::common::ast::{EntryExpr, Expr as Parsed, IdedEntryExpr, IdedExpr, LiteralValue, SourceInfo};

/// How long an expression may be, in characters.
const MAX_LENGTH: usize = 100_000;
/// How deep expressions may nest.
const MAX_DEPTH: u16 = 250;
/// How many nodes an expression may have once its macros are expanded.
const MAX_NODES: u32 = 500_000;
/// The parser recurses; its stack is its own. Only what is used of it takes memory.
const STACK: usize = 256 << 20;

/// A parsed expression, and how many ids it has.
#[derive(Debug)]
pub struct Tree {
    pub root: Expr,
    pub ids: u32,
}

/// Runs `work` where it may recurse as deeply as expressions nest; `None` where the system has no room for that.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cel-compiler".into())
            .stack_size(STACK);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// Parses an expression and expands its macros. Needs a [large stack](on_large_stack).
///
/// # Errors
/// All mistakes in its syntax.
pub fn parse(source: &str) -> Result<Tree, Issues> {
    let length = source.chars().count();
    if length > MAX_LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {MAX_LENGTH}");
        return Err(Issues::new(source, vec![Issue { at: None, message }]));
    }
    tree(source).map_err(|issues| Issues::new(source, issues))
}

fn tree(source: &str) -> Result<Tree, Vec<Issue>> {
    let parser = cel::Env::default().parser().max_recursion_depth(MAX_DEPTH);
    let (expr, info) = parser.parse_with_source_info(source).map_err(|errors| {
        errors
            .errors
            .iter()
            .map(|error| syntax_issue(source, error))
            .collect::<Vec<_>>()
    })?;
    let mut convert = Convert {
        source,
        info: &info,
        builder: Builder::default(),
    };
    let root = convert.expr(expr, 0);
    let Builder { next, issues } = convert.builder;
    if issues.is_empty() {
        Ok(Tree { root, ids: next })
    } else {
        Err(issues)
    }
}

fn syntax_issue(source: &str, error: &cel::ParseError) -> Issue {
    if error.msg == "UNKNOWN" || error.msg.starts_with("Recursion limit") {
        return too_deep();
    }
    let (line, column) = (error.pos.0.max(1) as usize, error.pos.1.max(1) as usize);
    let before: usize = source.split('\n').take(line - 1).map(|l| l.chars().count() + 1).sum();
    Issue {
        at: u32::try_from(before + column - 1).ok(),
        message: expected(&error.msg),
    }
}

/// What may continue an expression. cel-go does not list it among what it expected.
const OPERATORS: [&str; 17] = [
    "'=='", "'!='", "'in'", "'<'", "'<='", "'>='", "'>'", "'&&'", "'||'", "'['", "'.'", "'-'", "'?'", "'+'", "'*'",
    "'/'", "'%'",
];

/// A syntax error as cel-go says it.
fn expected(message: &str) -> String {
    let Some((text, set)) = message.rsplit_once(" expecting {") else {
        return message.into();
    };
    let tokens: Vec<&str> = set.trim_end_matches('}').split(", ").collect();
    if !OPERATORS.iter().all(|operator| tokens.contains(operator)) {
        return message.into();
    }
    let left: Vec<&str> = tokens.into_iter().filter(|token| !OPERATORS.contains(token)).collect();
    match &left[..] {
        [one] => format!("{text} expecting {one}"),
        left => format!("{text} expecting {{{}}}", left.join(", ")),
    }
}

fn too_deep() -> Issue {
    Issue {
        at: None,
        message: format!("expression recursion limit exceeded: {MAX_DEPTH}"),
    }
}

/// Makes nodes with ids, and collects what is wrong.
#[derive(Default)]
pub struct Builder {
    next: u32,
    pub issues: Vec<Issue>,
}

impl Builder {
    pub fn expr(&mut self, at: u32, kind: Kind) -> Expr {
        let id = self.next;
        self.next += 1;
        Expr { id, at, kind }
    }

    /// Whether there are too many nodes, which is then an issue.
    pub fn is_full(&mut self) -> bool {
        if self.next < MAX_NODES {
            return false;
        }
        if self.issues.is_empty() {
            self.issues.push(Issue {
                at: None,
                message: "expression is too large once its macros are expanded".into(),
            });
        }
        true
    }

    pub fn refuse(&mut self, at: u32, message: &str) {
        self.issues.push(Issue {
            at: Some(at),
            message: message.into(),
        });
    }
}

struct Convert<'a> {
    source: &'a str,
    info: &'a SourceInfo,
    builder: Builder,
}

impl Convert<'_> {
    fn at(&self, id: u64) -> u32 {
        let byte = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.source
            .get(..byte)
            .map_or(0, |before| before.chars().count() as u32)
    }

    fn expr(&mut self, expr: IdedExpr, depth: u16) -> Expr {
        let at = self.at(expr.id);
        if depth > MAX_DEPTH {
            if self.builder.issues.is_empty() {
                self.builder.issues.push(too_deep());
            }
            return self.builder.expr(at, Kind::Literal(Literal::Null));
        }
        let depth = depth + 1;
        let kind = match expr.expr {
            Parsed::Unspecified => Kind::Literal(Literal::Null),
            Parsed::Ident(name) => Kind::Ident(name.trim_start_matches('.').to_owned()),
            Parsed::Literal(literal) => Kind::Literal(literal_of(literal)),
            Parsed::Select(select) => Kind::Select {
                operand: Box::new(self.expr(*select.operand, depth)),
                field: select.field,
                test: select.test,
            },
            Parsed::Call(call) => {
                let target = call.target.map(|t| Box::new(self.expr(*t, depth)));
                let args: Vec<Expr> = call.args.into_iter().map(|a| self.expr(a, depth)).collect();
                return macros::expand(&mut self.builder, at, call.func_name, target, args);
            }
            Parsed::List(list) => Kind::List {
                elements: list.elements.into_iter().map(|e| self.expr(e, depth)).collect(),
                optional: list.optional_indices,
            },
            Parsed::Map(map) => Kind::Map(
                map.entries
                    .into_iter()
                    .filter_map(|entry| self.entry(entry, depth))
                    .collect(),
            ),
            Parsed::Struct(of) => Kind::Struct {
                name: of.type_name.trim_start_matches('.').to_owned(),
                fields: of
                    .entries
                    .into_iter()
                    .filter_map(|entry| self.field(entry, depth))
                    .collect(),
            },
            // The parser was given no macros, so it makes none.
            Parsed::Comprehension(_) => Kind::Literal(Literal::Null),
        };
        self.builder.expr(at, kind)
    }

    fn entry(&mut self, entry: IdedEntryExpr, depth: u16) -> Option<Entry> {
        let EntryExpr::MapEntry(entry) = entry.expr else {
            return None;
        };
        Some(Entry {
            key: self.expr(entry.key, depth),
            value: self.expr(entry.value, depth),
            optional: entry.optional,
        })
    }

    fn field(&mut self, entry: IdedEntryExpr, depth: u16) -> Option<StructField> {
        let at = self.at(entry.id);
        let EntryExpr::StructField(field) = entry.expr else {
            return None;
        };
        Some(StructField {
            at,
            name: field.field,
            value: self.expr(field.value, depth),
            optional: field.optional,
        })
    }
}

fn literal_of(literal: LiteralValue) -> Literal {
    match literal {
        LiteralValue::Boolean(b) => Literal::Bool(b.into_inner()),
        LiteralValue::Bytes(b) => Literal::Bytes(b.into_inner()),
        LiteralValue::Double(d) => Literal::Double(d.into_inner()),
        LiteralValue::Int(i) => Literal::Int(i.into_inner()),
        LiteralValue::Null => Literal::Null,
        LiteralValue::String(s) => Literal::String(s.into_inner()),
        LiteralValue::UInt(u) => Literal::Uint(u.into_inner()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<Tree, Issues> {
        on_large_stack(|| parse(source)).unwrap()
    }

    fn issues(source: &str) -> String {
        parsed(source).unwrap_err().to_string()
    }

    #[test]
    fn places_are_characters() {
        let tree = parsed("'é' + b").unwrap();
        let Kind::Call { args, .. } = &tree.root.kind else {
            panic!("{tree:?}")
        };
        assert_eq!((tree.root.at, args[1].at), (4, 6));
    }

    #[test]
    fn mistakes_read_as_in_cel_go() {
        assert_eq!(
            issues("self.my$prop == 'x'"),
            "ERROR: <input>:1:8: Syntax error: token recognition error at: '$'\n | self.my$prop == 'x'\n | .......^\nERROR: <input>:1:9: Syntax error: mismatched input 'prop' expecting <EOF>\n | self.my$prop == 'x'\n | ........^"
        );
        assert_eq!(
            issues("has(self)"),
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^"
        );
        assert_eq!(
            issues("self.all(1, true)"),
            "ERROR: <input>:1:10: argument must be a simple name\n | self.all(1, true)\n | .........^"
        );
    }

    #[test]
    fn what_nests_too_deeply_is_refused() {
        for source in [
            "(".repeat(5_000),
            format!("1{}", "+1".repeat(20_000)),
            "[".repeat(3_000),
            "!".repeat(3_000),
        ] {
            assert!(parsed(&source).is_err(), "{}", &source[..10]);
        }
    }
}
