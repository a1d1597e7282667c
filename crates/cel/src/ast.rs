//! What an expression is after it was read. Macros are kept as what they mean, not unfolded.

/// A part of an expression and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    /// Counted in characters from the start of the text.
    pub(crate) at: usize,
    /// How many parts stand inside each other at most.
    pub(crate) height: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    /// `a.b`, `a.?b` and `has(a.b)`.
    Select {
        operand: Box<Expr>,
        field: String,
        how: Selecting,
    },
    /// Functions, methods and operators; an operator is named with gaps, `_==_`.
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Item>),
    Map(Vec<Entry>),
    /// `Type{...}`: read, but no such type exists in rules.
    Struct(String),
    Fold(Box<Fold>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selecting {
    Plain,
    Optional,
    Test,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A macro that binds names and looks at a range (or an optional value) with them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fold {
    pub(crate) how: Folding,
    pub(crate) range: Expr,
    pub(crate) name: String,
    /// With two names the first is the index or the key.
    pub(crate) second: Option<String>,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folding {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformMap,
    TransformMapEntry,
    OptMap,
    OptFlatMap,
}

impl Kind {
    fn height_inside(&self) -> usize {
        let tallest = |parts: &mut dyn Iterator<Item = &Expr>| parts.map(|part| part.height).max().unwrap_or(0);
        match self {
            Self::Literal(_) | Self::Ident(_) | Self::Struct(_) => 0,
            Self::Select { operand, .. } => operand.height,
            Self::Call { target, args, .. } => tallest(&mut target.as_deref().into_iter().chain(args)),
            Self::List(items) => tallest(&mut items.iter().map(|item| &item.value)),
            Self::Map(entries) => tallest(&mut entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
            Self::Fold(fold) => tallest(&mut [&fold.range, &fold.body].into_iter().chain(&fold.filter)),
        }
    }
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        Self { at, height: 1 + kind.height_inside(), kind }
    }

    pub(crate) fn call(at: usize, function: &str, args: Vec<Self>) -> Self {
        Self::new(at, Kind::Call { function: function.to_owned(), target: None, args })
    }

    /// Whether `name` is asked for anywhere inside, other than as a name that a macro binds.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let all = |list: &[Self]| list.iter().any(|e| e.mentions(name));
        match &self.kind {
            Kind::Literal(_) | Kind::Struct(_) => false,
            Kind::Ident(ident) => ident == name,
            Kind::Select { operand, .. } => operand.mentions(name),
            Kind::Call { target, args, .. } => target.as_ref().is_some_and(|t| t.mentions(name)) || all(args),
            Kind::List(items) => items.iter().any(|i| i.value.mentions(name)),
            Kind::Map(entries) => entries.iter().any(|e| e.key.mentions(name) || e.value.mentions(name)),
            Kind::Fold(fold) => {
                let bound = fold.name == name || fold.second.as_deref() == Some(name);
                let inside =
                    fold.body.mentions(name) || fold.filter.as_ref().is_some_and(|filter| filter.mentions(name));
                fold.range.mentions(name) || (inside && !bound)
            }
        }
    }
}
