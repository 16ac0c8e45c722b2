//! The cost of calls, by function and overload.

use super::{Arg, Entries, Estimator, LIST_COST, REGEX, Range, STRUCT_COST, Size, Step, TRAVERSAL, declared};
use crate::ast::{Expr, Kind, Literal};
use crate::types::Type;

/// What a call costs beside its arguments, and how large its result is.
struct Estimate {
    cost: Range,
    size: Option<Size>,
}

/// Sizes of addresses, in bytes.
const ADDRESS: Size = Size { min: 4, max: 16 };
/// How long the expression behind a named format is taken to be.
const FORMAT_REGEX: f64 = 128.0;
/// The longest name of a format.
const FORMAT_NAME: u64 = 64;

impl<'d> Estimator<'d> {
    pub(super) fn call(&mut self, expr: &Expr) -> Range {
        let Kind::Call { function, target, args } = &expr.kind else {
            return Range::ZERO;
        };
        if function == "dyn"
            && let [arg] = &args[..]
        {
            let cost = self.expr(arg);
            self.copy_sizes(expr, arg);
            return cost.add(Range::fixed(1));
        }
        let mut costs = Vec::with_capacity(args.len());
        let mut given = Vec::with_capacity(args.len());
        for arg in args {
            costs.push(self.expr(arg));
            given.push(self.arg(arg));
        }
        let overloads = self.checked.overloads(expr).to_vec();
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let mut sum = Range::ZERO;
        let mut on = None;
        if let Some(target) = target {
            sum = self.expr(target);
            on = Some(self.arg(target));
        }
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Size> = None;
        for overload in overloads {
            let estimate = self.overload(expr, function, overload, on, &given, &costs);
            cost = cost.union(estimate.cost);
            size = match (size, estimate.size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if matches!(overload, "index_list" | "index_map") {
                size = self.entries_of(&args[0]).map(|e| e.value);
                let path = self.step(self.path(&args[0]), Step::Element);
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.add(cost)
    }

    fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<Arg<'_, 'd>>,
        args: &[Arg<'_, 'd>],
        costs: &[Range],
    ) -> Estimate {
        let all_args = costs.iter().fold(Range::ZERO, |sum, cost| sum.add(*cost));
        let special = list_cost(overload, target, args).or_else(|| self.kubernetes(function, overload, target, args));
        if let Some(estimate) = special {
            return Estimate {
                cost: estimate.cost.add(all_args),
                size: estimate.size,
            };
        }
        let plain = |cost: Range| Estimate {
            cost: cost.add(all_args),
            size: None,
        };
        let sized = |cost: Range, size: Size| Estimate {
            cost: cost.add(all_args),
            size: Some(size),
        };
        let size = |arg: &Arg| arg.size.unwrap_or(Size::UNKNOWN);
        match (overload, target.as_ref(), args) {
            ("string_format", Some(on), _) => plain(size(on).scale(TRAVERSAL)),
            ("string_to_bytes", _, [arg]) => {
                let from = size(arg);
                sized(
                    from.scale(TRAVERSAL),
                    Size {
                        min: from.min,
                        max: from.max.wrapping_mul(4),
                    },
                )
            }
            ("bytes_to_string", _, [arg]) => {
                let from = size(arg);
                sized(
                    from.scale(TRAVERSAL),
                    Size {
                        min: from.min / 4,
                        max: from.max,
                    },
                )
            }
            ("strings_quote", _, [arg]) => {
                let from = size(arg);
                let to = Size {
                    min: from.min.wrapping_add(2),
                    max: from.max.wrapping_mul(2).wrapping_add(2),
                };
                sized(from.scale(TRAVERSAL), to)
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => plain(size(arg).scale(TRAVERSAL)),
            ("in_list", _, [_, list]) => plain(size(list).scale(1.0)),
            ("matches_string", Some(on), [pattern]) => plain(regex(size(on), size(pattern))),
            ("contains_string", Some(on), [part]) => {
                plain(size(on).scale(TRAVERSAL).multiply(size(part).scale(TRAVERSAL)))
            }
            ("logical_or" | "logical_and", _, [_, _]) => Estimate {
                cost: Range {
                    min: costs[0].min,
                    max: costs[0].add(costs[1]).max,
                },
                size: None,
            },
            ("conditional", _, [_, yes, no]) => {
                if let (Some(a), Some(b)) = (self.entries_of(yes.expr), self.entries_of(no.expr)) {
                    self.entries.insert(expr.id, a.union(b));
                }
                let cost = costs[0].add(costs[1].union(costs[2]));
                Estimate {
                    cost,
                    size: Some(size(yes).union(size(no))),
                }
            }
            ("add_string" | "add_bytes" | "add_list", _, [a, b]) => {
                let total = size(a).add(size(b));
                if let (Some(a), Some(b)) = (self.entries_of(a.expr), self.entries_of(b.expr)) {
                    self.entries.insert(expr.id, a.union(b));
                }
                let cost = if overload == "add_list" {
                    Range::fixed(1)
                } else {
                    total.scale(TRAVERSAL)
                };
                sized(cost, total)
            }
            (_, _, [a, b]) if compares_text(overload) => {
                let max = size(a).max.min(size(b).max);
                plain(
                    Range {
                        min: u64::from(max > 0),
                        max,
                    }
                    .scale(TRAVERSAL),
                )
            }
            _ => plain(Range::fixed(1)),
        }
    }

    /// The functions of Kubernetes' libraries, and those of cel-go it has its own numbers for.
    fn kubernetes(
        &self,
        function: &str,
        overload: &str,
        target: Option<Arg<'_, 'd>>,
        args: &[Arg<'_, 'd>],
    ) -> Option<Estimate> {
        let size = |arg: &Arg| arg.size.or_else(|| declared(arg.path)).unwrap_or(Size::UNKNOWN);
        let plain = |cost: Range| Some(Estimate { cost, size: None });
        let sized = |cost: Range, size: Size| Some(Estimate { cost, size: Some(size) });
        let first = args.first();
        match function {
            "check" => plain(Range::fixed(350_000)),
            "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
            | "reason" | "error" | "errored" => plain(Range::fixed(1)),
            "fieldSelector" | "labelSelector" => {
                let length = size(first.filter(|_| args.len() == 1)?);
                let requirements = length.scale(0.5).scale((LIST_COST + STRUCT_COST) as f64);
                plain(Range::fixed(LIST_COST).add(length.scale(TRAVERSAL)).add(requirements))
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let on = target?;
                let Some((ty, item)) = self.item(&on) else {
                    return plain(size(&on).scale(TRAVERSAL));
                };
                let mut each = Range::fixed(1);
                if matches!(ty, Type::String | Type::Bytes) {
                    each = each.add(item.scale(TRAVERSAL));
                }
                plain(size(&on).times(each))
            }
            "url" | "jsonpatch.escapeKey" => {
                let text = size(first.filter(|_| args.len() == 1)?);
                sized(text.scale(TRAVERSAL), text)
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let text = size(&target?);
                sized(text.scale(TRAVERSAL), text)
            }
            "replace" => {
                let text = size(&target?);
                let [old, new, ..] = args else { return None };
                sized(text.scale(2.0 * TRAVERSAL), replaced(text, size(old), size(new)))
            }
            "split" => {
                let text = size(&target?);
                let limit = args.get(1).and_then(|a| a.expr.literal());
                let max = match limit {
                    Some(Literal::Int(limit)) => *limit as u64,
                    _ => text.max,
                };
                sized(text.scale(2.0 * TRAVERSAL), Size { min: 0, max })
            }
            "join" => {
                let on = target?;
                let list = size(&on);
                let mut total = match self.item(&on) {
                    Some((_, item)) => list.multiply(item),
                    None => Size::fixed(0),
                };
                if let Some(separator) = first {
                    let count = Size {
                        min: list.min.saturating_sub(1),
                        max: list.max.saturating_sub(1),
                    };
                    total = total.add(size(separator).multiply(count));
                }
                sized(total.scale(TRAVERSAL), total)
            }
            "find" | "findAll" => {
                let text = size(&target?);
                sized(regex(text, size(first?)), Size { min: 0, max: text.max })
            }
            "ip" if overload == "cidr_ip" => plain(Range::fixed(1)),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                plain(size(first?).scale(TRAVERSAL))
            }
            "ip.isCanonical" => plain(size(first?).scale(2.0 * TRAVERSAL)),
            "containsIP" => {
                let mut cost = ADDRESS.add(ADDRESS).scale(TRAVERSAL);
                if overload == "cidr_contains_ip_string" {
                    cost = cost.add(size(first?).scale(TRAVERSAL));
                }
                plain(cost)
            }
            "containsCIDR" => {
                let mut cost = ADDRESS.add(ADDRESS).scale(TRAVERSAL);
                cost = cost.add(ADDRESS.scale(TRAVERSAL)).add(Range::fixed(1));
                if overload == "cidr_contains_cidr_string" {
                    cost = cost.add(size(first?).scale(TRAVERSAL));
                }
                plain(cost)
            }
            "validate" => plain(size(first?).scale(TRAVERSAL).scale(FORMAT_REGEX * REGEX)),
            "format.named"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => plain(Range::fixed(1)),
            "_==_" => self.equality(args),
            _ => None,
        }
    }

    /// Values of Kubernetes' own types compare at once.
    fn equality(&self, args: &[Arg]) -> Option<Estimate> {
        let [a, b] = args else { return None };
        let (left, right) = (self.checked.type_of(a.expr), self.checked.type_of(b.expr));
        if !left.same(right) {
            return None;
        }
        let cost = match left.name() {
            "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => Range::fixed(1),
            name if name.starts_with("kubernetes.authorization.") => Range::fixed(1),
            "kubernetes.NamedFormat" => Range {
                min: 1,
                max: FORMAT_NAME,
            }
            .scale(TRAVERSAL),
            // COMPAT: upstream asks the right side's size twice.
            "kubernetes.URL" => Range {
                min: 1,
                max: b.size.map_or(1, |s| s.max),
            }
            .scale(TRAVERSAL),
            _ => return None,
        };
        Some(Estimate { cost, size: None })
    }

    /// The type and size of a list's items.
    fn item(&self, list: &Arg) -> Option<(Type, Size)> {
        let ty = match self.checked.type_of(list.expr) {
            Type::List(items) => (**items).clone(),
            Type::Map(of) => of.0.clone(),
            Type::Opaque(_, params) => params.first()?.clone(),
            _ => return None,
        };
        let path = match list.path {
            None => None,
            path => self.step(path, Step::Element),
        };
        Some((ty, declared(path).unwrap_or(Size::UNKNOWN)))
    }
}

impl Entries {
    fn union(self, other: Entries) -> Entries {
        Entries {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

fn regex(text: Size, pattern: Size) -> Range {
    text.add(Size::fixed(1)).scale(TRAVERSAL).multiply(pattern.scale(REGEX))
}

fn compares_text(overload: &str) -> bool {
    matches!(overload, "equals" | "not_equals")
        || ["less_", "less_equals_", "greater_", "greater_equals_"]
            .iter()
            .any(|op| {
                overload
                    .strip_prefix(op)
                    .is_some_and(|ty| matches!(ty, "string" | "bytes"))
            })
}

/// How long a text can be after a replacement.
fn replaced(text: Size, old: Size, new: Size) -> Size {
    let (mut count, mut kept) = (Size::fixed(0), Size::fixed(0));
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = (text.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = (text.min as f64 / old.max as f64).ceil() as u64;
    }
    count.multiply(new).add(kept)
}

/// cel-go's own numbers for lists and sets, which come before all others.
fn list_cost(overload: &str, target: Option<Arg>, args: &[Arg]) -> Option<Estimate> {
    let size = |arg: &Arg| arg.size.or_else(|| declared(arg.path)).unwrap_or(Size::UNKNOWN);
    let allocating = |factor: f64, size: Size| {
        Some(Estimate {
            cost: size.scale(factor).add(Range::fixed(1 + LIST_COST)),
            size: Some(size),
        })
    };
    let integer = |arg: &Arg, otherwise: u64| match arg.expr.literal() {
        Some(Literal::Int(i)) => (*i).max(0).unsigned_abs(),
        _ => otherwise,
    };
    match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list" => {
            let [a, b] = args else { return None };
            let factor = if overload == "list_sets_equivalent_list" {
                2.0
            } else {
                1.0
            };
            let cost = size(a).multiply(size(b)).scale(factor).add(Range::fixed(1));
            Some(Estimate { cost, size: None })
        }
        "list_slice" => {
            let [start, end] = args else { return None };
            let max = size(&target?).max;
            allocating(1.0, Size::fixed(integer(end, max).wrapping_sub(integer(start, 0))))
        }
        "list_flatten" | "list_flatten_int" => {
            let depth = args.first().map_or(1, |d| integer(d, u64::MAX));
            allocating(depth as f64, size(&target?))
        }
        "lists_range" => allocating(1.0, Size::fixed(integer(args.first()?, u64::MAX))),
        "list_reverse" => allocating(1.0, size(&target?)),
        "list_distinct" => {
            let list = size(&target?);
            allocating(2.0, list.multiply(list))
        }
        _ => {
            let rest = overload.strip_prefix("list_")?;
            let (ty, list) = match rest.strip_suffix("_sort") {
                Some(ty) => (ty, size(&target?)),
                None => (rest.strip_suffix("_sortByAssociatedKeys")?, size(args.first()?)),
            };
            let factor = if matches!(ty, "string" | "bytes") {
                2.0 + TRAVERSAL
            } else {
                2.0
            };
            allocating(factor, list.multiply(list))
        }
    }
}
