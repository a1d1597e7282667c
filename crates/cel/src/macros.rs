//! Calls that are read as something else: `has`, and those that bind names.

use crate::ast::{Expr, Fold, Folding, Kind, Selecting};
use crate::fault::Fault;

pub(crate) fn function(at: usize, name: String, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    if name != "has" || args.len() != 1 {
        return Ok(Expr::new(at, Kind::Call { function: name, target: None, args }));
    }
    let argument = args.remove(0);
    match argument.kind {
        Kind::Select { operand, field, how: Selecting::Plain } => {
            Ok(Expr::new(at, Kind::Select { operand, field, how: Selecting::Test }))
        }
        _ => Err(Fault { at: argument.at, message: "invalid argument to has() macro".into() }),
    }
}

pub(crate) fn method(at: usize, target: Expr, name: String, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    use Folding::{All, Exists, ExistsOne, Filter, Map, OptFlatMap, OptMap, TransformMap, TransformMapEntry};
    // How many names are bound, and whether a filter comes before the last argument.
    let (how, names, filtered) = match (name.as_str(), args.len()) {
        ("all", 2) => (All, 1, false),
        ("all", 3) => (All, 2, false),
        ("exists", 2) => (Exists, 1, false),
        ("exists", 3) => (Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (ExistsOne, 2, false),
        ("map", 2) => (Map, 1, false),
        ("map", 3) => (Map, 1, true),
        ("filter", 2) => (Filter, 1, false),
        ("transformList", 3) => (Map, 2, false),
        ("transformList", 4) => (Map, 2, true),
        ("transformMap", 3) => (TransformMap, 2, false),
        ("transformMap", 4) => (TransformMap, 2, true),
        ("transformMapEntry", 3) => (TransformMapEntry, 2, false),
        ("transformMapEntry", 4) => (TransformMapEntry, 2, true),
        ("optMap", 2) => (OptMap, 1, false),
        ("optFlatMap", 2) => (OptFlatMap, 1, false),
        _ => return Ok(Expr::new(at, Kind::Call { function: name, target: Some(Box::new(target)), args })),
    };
    let body = args.pop().expect("every macro has two arguments or more");
    let filter = if filtered { args.pop() } else { None };
    let second = if names == 2 { args.pop().map(bound).transpose()? } else { None };
    let first = bound(args.remove(0))?;
    let fold = Fold { how, range: target, name: first, second, filter, body };
    Ok(Expr::new(at, Kind::Fold(Box::new(fold))))
}

fn bound(name: Expr) -> Result<String, Fault> {
    match name.kind {
        Kind::Ident(name) => Ok(name),
        _ => Err(Fault { at: name.at, message: "argument must be a simple name".into() }),
    }
}
