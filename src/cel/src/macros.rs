//! Macros: calls that are written as something else.
//!
//! Source of the expansions: cel-go parser/macro.go, ext/comprehensions.go, ext/lists.go, cel/library.go (optional types).

use crate::ast::{ACCUMULATOR, Comprehension, Entry, Expr, Kind, Literal, StructField};
use crate::parse::Builder;

/// What makes a comprehension of a macro: initial value, condition, step and result.
struct Loop {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

/// A call, or what its macro makes of it.
pub fn expand(b: &mut Builder, at: u32, function: String, target: Option<Box<Expr>>, mut args: Vec<Expr>) -> Expr {
    let Some(target) = target else {
        if function == "has" && args.len() == 1 {
            return has(b, at, args.remove(0));
        }
        return b.expr(
            at,
            Kind::Call {
                function,
                target: None,
                args,
            },
        );
    };
    let mut m = Make { b, at };
    match (function.as_str(), args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2) => {
            let Some(vars) = m.vars(&args[..1], "argument must be a simple name") else {
                return m.nothing();
            };
            m.quantifier(&function, *target, vars, args)
        }
        ("all" | "exists" | "exists_one" | "existsOne", 3) => {
            let Some(vars) = m.vars(&args[..2], "argument must be a simple name") else {
                return m.nothing();
            };
            m.quantifier(&function, *target, vars, args)
        }
        ("map", 2 | 3) => {
            let Some(vars) = m.vars(&args[..1], "argument is not an identifier") else {
                return m.nothing();
            };
            let transform = args.pop().expect("two or three arguments");
            let filter = (args.len() == 2).then(|| args.pop().expect("two arguments"));
            m.collect(*target, vars, transform, filter)
        }
        ("filter", 2) => {
            let Some(vars) = m.vars(&args[..1], "argument is not an identifier") else {
                return m.nothing();
            };
            let filter = args.pop().expect("two arguments");
            let item = args.pop().expect("two arguments");
            m.collect(*target, vars, item, Some(filter))
        }
        ("transformList", 3 | 4) => {
            let Some(vars) = m.vars(&args[..2], "argument must be a simple name") else {
                return m.nothing();
            };
            let transform = args.pop().expect("three or four arguments");
            let filter = (args.len() == 3).then(|| args.pop().expect("three arguments"));
            m.collect(*target, vars, transform, filter)
        }
        ("transformMap" | "transformMapEntry", 3 | 4) => {
            let Some(vars) = m.vars(&args[..2], "argument must be a simple name") else {
                return m.nothing();
            };
            let transform = args.pop().expect("three or four arguments");
            let filter = (args.len() == 3).then(|| args.pop().expect("three arguments"));
            m.insert(*target, vars, transform, filter, function == "transformMap")
        }
        ("sortBy", 2) => m.sort_by(*target, args),
        ("optMap" | "optFlatMap", 2) => m.optional_map(*target, args, function == "optMap"),
        _ => b.expr(
            at,
            Kind::Call {
                function,
                target: Some(target),
                args,
            },
        ),
    }
}

fn has(b: &mut Builder, at: u32, arg: Expr) -> Expr {
    match arg.kind {
        Kind::Select { operand, field, .. } => b.expr(
            at,
            Kind::Select {
                operand,
                field,
                test: true,
            },
        ),
        _ => {
            b.refuse(arg.at, "invalid argument to has() macro");
            arg
        }
    }
}

/// Makes the nodes of one expansion, all placed where the call is.
struct Make<'a> {
    b: &'a mut Builder,
    at: u32,
}

impl Make<'_> {
    fn expr(&mut self, kind: Kind) -> Expr {
        self.b.expr(self.at, kind)
    }

    fn nothing(&mut self) -> Expr {
        self.literal(Literal::Null)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.expr(Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.expr(Kind::Ident(name.into()))
    }

    fn accu(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call {
            function: function.into(),
            target: None,
            args,
        })
    }

    fn member(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call {
            function: function.into(),
            target: Some(Box::new(target)),
            args,
        })
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        self.expr(Kind::List {
            elements,
            optional: Vec::new(),
        })
    }

    fn comprehension(&mut self, range: Expr, mut vars: Vec<String>, accu: &str, of: Loop) -> Expr {
        let var2 = (vars.len() > 1).then(|| vars.remove(1));
        self.expr(Kind::Comprehension(Box::new(Comprehension {
            range,
            var: vars.pop().unwrap_or_default(),
            var2,
            accu: accu.into(),
            init: of.init,
            condition: of.condition,
            step: of.step,
            result: of.result,
        })))
    }

    /// The names of iteration variables; `None` where they are none, which is then an issue.
    fn vars(&mut self, args: &[Expr], message: &str) -> Option<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for arg in args {
            let Kind::Ident(name) = &arg.kind else {
                self.b.refuse(arg.at, message);
                return None;
            };
            if names.contains(name) {
                self.b.refuse(arg.at, &format!("duplicate variable name: {name}"));
                return None;
            }
            if name == "__result__" || name == ACCUMULATOR {
                self.b
                    .refuse(arg.at, "iteration variable overwrites accumulator variable");
                return None;
            }
            names.push(name.clone());
        }
        Some(names)
    }

    fn quantifier(&mut self, function: &str, target: Expr, vars: Vec<String>, mut args: Vec<Expr>) -> Expr {
        let predicate = args.pop().expect("a predicate after the variables");
        let accu = self.accu();
        let of = match function {
            "all" => {
                let condition = self.call("@not_strictly_false", vec![accu]);
                let accu = self.accu();
                Loop {
                    init: self.literal(Literal::Bool(true)),
                    condition,
                    step: self.call("_&&_", vec![accu, predicate]),
                    result: self.accu(),
                }
            }
            "exists" => {
                let not = self.call("!_", vec![accu]);
                let accu = self.accu();
                Loop {
                    init: self.literal(Literal::Bool(false)),
                    condition: self.call("@not_strictly_false", vec![not]),
                    step: self.call("_||_", vec![accu, predicate]),
                    result: self.accu(),
                }
            }
            _ => {
                let one = self.literal(Literal::Int(1));
                let more = self.call("_+_", vec![accu, one]);
                let same = self.accu();
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                Loop {
                    init: self.literal(Literal::Int(0)),
                    condition: self.literal(Literal::Bool(true)),
                    step: self.call("_?_:_", vec![predicate, more, same]),
                    result: self.call("_==_", vec![accu, one]),
                }
            }
        };
        self.comprehension(target, vars, ACCUMULATOR, of)
    }

    /// `accu + [item]` for every element, or for those that pass.
    fn collect(&mut self, target: Expr, vars: Vec<String>, item: Expr, filter: Option<Expr>) -> Expr {
        let (accu, item) = (self.accu(), self.list(vec![item]));
        let add = self.call("_+_", vec![accu, item]);
        let step = self.filtered(add, filter);
        let init = self.list(Vec::new());
        let of = Loop {
            init,
            condition: self.literal(Literal::Bool(true)),
            step,
            result: self.accu(),
        };
        self.comprehension(target, vars, ACCUMULATOR, of)
    }

    fn insert(
        &mut self,
        target: Expr,
        vars: Vec<String>,
        transform: Expr,
        filter: Option<Expr>,
        keeps_keys: bool,
    ) -> Expr {
        let accu = self.accu();
        let args = if keeps_keys {
            vec![accu, self.ident(&vars[0]), transform]
        } else {
            vec![accu, transform]
        };
        let add = self.call("cel.@mapInsert", args);
        let step = self.filtered(add, filter);
        let init = self.expr(Kind::Map(Vec::new()));
        let of = Loop {
            init,
            condition: self.literal(Literal::Bool(true)),
            step,
            result: self.accu(),
        };
        self.comprehension(target, vars, ACCUMULATOR, of)
    }

    fn filtered(&mut self, step: Expr, filter: Option<Expr>) -> Expr {
        match filter {
            None => step,
            Some(filter) => {
                let same = self.accu();
                self.call("_?_:_", vec![filter, step, same])
            }
        }
    }

    /// `name` stands for `value` in `result`.
    fn bind(&mut self, name: &str, value: Expr, result: Expr) -> Expr {
        let of = Loop {
            init: value,
            condition: self.literal(Literal::Bool(false)),
            step: self.ident(name),
            result,
        };
        let nothing = self.list(Vec::new());
        self.comprehension(nothing, vec!["#unused".into()], name, of)
    }

    fn sort_by(&mut self, target: Expr, mut args: Vec<Expr>) -> Expr {
        const INPUT: &str = "@__sortBy_input__";
        let fits = matches!(
            target.kind,
            Kind::List { .. } | Kind::Select { .. } | Kind::Ident(_) | Kind::Comprehension(_) | Kind::Call { .. }
        );
        if !fits {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            self.b.refuse(target.at, message);
            return self.nothing();
        }
        let Some(vars) = self.vars(&args[..1], "argument is not an identifier") else {
            return self.nothing();
        };
        let key = args.pop().expect("two arguments");
        let input = self.ident(INPUT);
        let keys = self.collect(input, vars, key, None);
        let input = self.ident(INPUT);
        let sorted = self.member("@sortByAssociatedKeys", input, vec![keys]);
        self.bind(INPUT, target, sorted)
    }

    fn optional_map(&mut self, target: Expr, mut args: Vec<Expr>, wraps: bool) -> Expr {
        let transform = args.pop().expect("two arguments");
        let name = match &args[0].kind {
            Kind::Ident(name) => name.clone(),
            _ => {
                let macro_name = if wraps { "optMap" } else { "optFlatMap" };
                let message = format!("{macro_name}() variable name must be a simple identifier");
                self.b.refuse(args[0].at, &message);
                return self.nothing();
            }
        };
        let copy = self.copy(&target);
        let value = self.member("value", copy, Vec::new());
        let bound = self.bind(&name, value, transform);
        let some = if wraps {
            self.call("optional.of", vec![bound])
        } else {
            bound
        };
        let (given, none) = (
            self.member("hasValue", target, Vec::new()),
            self.call("optional.none", Vec::new()),
        );
        self.call("_?_:_", vec![given, some, none])
    }

    /// The same expression with ids of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        // Copies of copies double with every link of a chain.
        if self.b.is_full() {
            return self.nothing();
        }
        let kind = match &expr.kind {
            Kind::Literal(literal) => Kind::Literal(literal.clone()),
            Kind::Ident(name) => Kind::Ident(name.clone()),
            Kind::Select { operand, field, test } => Kind::Select {
                operand: Box::new(self.copy(operand)),
                field: field.clone(),
                test: *test,
            },
            Kind::Call { function, target, args } => Kind::Call {
                function: function.clone(),
                target: target.as_ref().map(|t| Box::new(self.copy(t))),
                args: args.iter().map(|a| self.copy(a)).collect(),
            },
            Kind::List { elements, optional } => Kind::List {
                elements: elements.iter().map(|e| self.copy(e)).collect(),
                optional: optional.clone(),
            },
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|e| Entry {
                        key: self.copy(&e.key),
                        value: self.copy(&e.value),
                        optional: e.optional,
                    })
                    .collect(),
            ),
            Kind::Struct { name, fields } => Kind::Struct {
                name: name.clone(),
                fields: fields
                    .iter()
                    .map(|f| StructField {
                        at: f.at,
                        name: f.name.clone(),
                        value: self.copy(&f.value),
                        optional: f.optional,
                    })
                    .collect(),
            },
            Kind::Comprehension(c) => Kind::Comprehension(Box::new(Comprehension {
                range: self.copy(&c.range),
                var: c.var.clone(),
                var2: c.var2.clone(),
                accu: c.accu.clone(),
                init: self.copy(&c.init),
                condition: self.copy(&c.condition),
                step: self.copy(&c.step),
                result: self.copy(&c.result),
            })),
        };
        self.b.expr(expr.at, kind)
    }
}
