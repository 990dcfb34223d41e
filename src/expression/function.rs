//! The functions of the language: their names, how they are called, how many arguments they take.
//!
//! The one table that the compiler, the printer and the documentation's test go by. What the functions do is in `call`.

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    String,
    Int,
    Double,
    Bool,
    Dyn,
    Timestamp,
    Duration,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    UpperAscii,
    Trim,
    Split,
    Replace,
    Substring,
    IndexOf,
    LastIndexOf,
    CharAt,
    Reverse,
    Format,
    Join,
    Sort,
    Distinct,
    Flatten,
    Slice,
    Sum,
    Min,
    Max,
    Or,
    HasValue,
    OptionalValue,
    Greatest,
    Least,
    Abs,
    Ceil,
    Floor,
    Round,
    Trunc,
    Sign,
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `name(argument)`
    Global,
    /// `receiver.name(argument)`
    Method,
    /// `math.name(argument)`
    Math,
}

/// What the compiler must know of a function.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) style: Style,
    pub(super) function: Function,
    /// Arguments, without the receiver.
    pub(super) arguments_min: usize,
    pub(super) arguments_max: usize,
}

const fn of(name: &'static str, style: Style, function: Function, min: usize, max: usize) -> Signature {
    Signature { name, style, function, arguments_min: min, arguments_max: max }
}

/// Arguments of `math.greatest` and `math.least`.
const MANY: usize = 32;

/// All functions but the macros, `matches`, `orValue` and `lookup`, which the compiler knows by name.
pub(super) const SIGNATURES: [Signature; 52] = {
    use Function as F;
    use Style::{Global, Math, Method};
    [
        of("size", Global, F::Size, 1, 1),
        of("size", Method, F::Size, 0, 0),
        of("string", Global, F::String, 1, 1),
        of("int", Global, F::Int, 1, 1),
        of("double", Global, F::Double, 1, 1),
        of("bool", Global, F::Bool, 1, 1),
        of("dyn", Global, F::Dyn, 1, 1),
        of("timestamp", Global, F::Timestamp, 1, 1),
        of("duration", Global, F::Duration, 1, 1),
        of("startsWith", Method, F::StartsWith, 1, 1),
        of("endsWith", Method, F::EndsWith, 1, 1),
        of("contains", Method, F::Contains, 1, 1),
        of("lowerAscii", Method, F::LowerAscii, 0, 0),
        of("upperAscii", Method, F::UpperAscii, 0, 0),
        of("trim", Method, F::Trim, 0, 0),
        of("split", Method, F::Split, 1, 2),
        of("replace", Method, F::Replace, 2, 3),
        of("substring", Method, F::Substring, 1, 2),
        of("indexOf", Method, F::IndexOf, 1, 2),
        of("lastIndexOf", Method, F::LastIndexOf, 1, 2),
        of("charAt", Method, F::CharAt, 1, 1),
        of("reverse", Method, F::Reverse, 0, 0),
        of("format", Method, F::Format, 1, 1),
        of("join", Method, F::Join, 0, 1),
        of("sort", Method, F::Sort, 0, 0),
        of("distinct", Method, F::Distinct, 0, 0),
        of("flatten", Method, F::Flatten, 0, 1),
        of("slice", Method, F::Slice, 2, 2),
        of("sum", Method, F::Sum, 0, 0),
        of("min", Method, F::Min, 0, 0),
        of("max", Method, F::Max, 0, 0),
        of("or", Method, F::Or, 1, 1),
        of("hasValue", Method, F::HasValue, 0, 0),
        of("value", Method, F::OptionalValue, 0, 0),
        of("greatest", Math, F::Greatest, 1, MANY),
        of("least", Math, F::Least, 1, MANY),
        of("abs", Math, F::Abs, 1, 1),
        of("ceil", Math, F::Ceil, 1, 1),
        of("floor", Math, F::Floor, 1, 1),
        of("round", Math, F::Round, 1, 1),
        of("trunc", Math, F::Trunc, 1, 1),
        of("sign", Math, F::Sign, 1, 1),
        of("getFullYear", Method, F::FullYear, 0, 1),
        of("getMonth", Method, F::Month, 0, 1),
        of("getDate", Method, F::Date, 0, 1),
        of("getDayOfMonth", Method, F::DayOfMonth, 0, 1),
        of("getDayOfWeek", Method, F::DayOfWeek, 0, 1),
        of("getDayOfYear", Method, F::DayOfYear, 0, 1),
        of("getHours", Method, F::Hours, 0, 1),
        of("getMinutes", Method, F::Minutes, 0, 1),
        of("getSeconds", Method, F::Seconds, 0, 1),
        of("getMilliseconds", Method, F::Milliseconds, 0, 1),
    ]
};

impl Function {
    /// Its row of the table.
    pub(super) fn signature(self) -> &'static Signature {
        let row = SIGNATURES.iter().find(|signature| signature.function == self);
        row.expect("every function has a row")
    }
}

/// What is written as a function but handled by the compiler itself.
const SPECIAL: [(&str, Style); 10] = [
    ("has", Style::Global),
    ("lookup", Style::Global),
    ("matches", Style::Global),
    ("matches", Style::Method),
    ("orValue", Style::Method),
    ("all", Style::Method),
    ("exists", Style::Method),
    ("exists_one", Style::Method),
    ("map", Style::Method),
    ("filter", Style::Method),
];

/// The names that can be called in this style.
pub(super) fn names(style: Style) -> impl Iterator<Item = &'static str> {
    let plain = SIGNATURES.iter().map(|signature| (signature.name, signature.style));
    plain.chain(SPECIAL).filter(move |(_, at)| *at == style).map(|(name, _)| name)
}
