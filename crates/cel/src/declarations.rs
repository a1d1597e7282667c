//! Every function, method and operator that rules of Kubernetes 1.35 may use, as a table to be read by people and by the checker.
//!
//! A line is `name(arguments) -> result`; for a method the type of what it is called on comes first, `string .trim() -> string`.
//! Single capital letters stand for any one type. Where a name has several lines, the first that fits tells the result.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::types::Type;

const TABLE: &str = "
_?_:_(bool, A, A) -> A
_&&_(bool, bool) -> bool
_||_(bool, bool) -> bool
!_(bool) -> bool
-_(int) -> int
-_(double) -> double
_==_(A, A) -> bool
_!=_(A, A) -> bool
_<_(bool, bool) -> bool
_<_(int, int) -> bool
_<_(uint, uint) -> bool
_<_(double, double) -> bool
_<_(string, string) -> bool
_<_(bytes, bytes) -> bool
_<_(timestamp, timestamp) -> bool
_<_(duration, duration) -> bool
_<_(int, double) -> bool
_<_(int, uint) -> bool
_<_(uint, double) -> bool
_<_(uint, int) -> bool
_<_(double, int) -> bool
_<_(double, uint) -> bool
_+_(int, int) -> int
_+_(uint, uint) -> uint
_+_(double, double) -> double
_+_(string, string) -> string
_+_(bytes, bytes) -> bytes
_+_(list(A), list(A)) -> list(A)
_+_(duration, duration) -> duration
_+_(timestamp, duration) -> timestamp
_+_(duration, timestamp) -> timestamp
_-_(int, int) -> int
_-_(uint, uint) -> uint
_-_(double, double) -> double
_-_(duration, duration) -> duration
_-_(timestamp, timestamp) -> duration
_-_(timestamp, duration) -> timestamp
_*_(int, int) -> int
_*_(uint, uint) -> uint
_*_(double, double) -> double
_/_(int, int) -> int
_/_(uint, uint) -> uint
_/_(double, double) -> double
_%_(int, int) -> int
_%_(uint, uint) -> uint
@in(A, list(A)) -> bool
@in(A, map(A, B)) -> bool
_[_](list(A), int) -> A
_[_](map(A, B), A) -> B
_[_](optional(list(A)), int) -> optional(A)
_[_](optional(map(A, B)), A) -> optional(B)
_[?_](list(A), int) -> optional(A)
_[?_](map(A, B), A) -> optional(B)
_[?_](optional(list(A)), int) -> optional(A)
_[?_](optional(map(A, B)), A) -> optional(B)

type(A) -> type(A)
dyn(A) -> dyn
bool(bool) -> bool
bool(string) -> bool
int(int) -> int
int(uint) -> int
int(double) -> int
int(string) -> int
int(timestamp) -> int
int(duration) -> int
uint(uint) -> uint
uint(int) -> uint
uint(double) -> uint
uint(string) -> uint
double(double) -> double
double(int) -> double
double(uint) -> double
double(string) -> double
string(string) -> string
string(bool) -> string
string(int) -> string
string(uint) -> string
string(double) -> string
string(bytes) -> string
string(timestamp) -> string
string(duration) -> string
string(net.IP) -> string
string(net.CIDR) -> string
bytes(bytes) -> bytes
bytes(string) -> bytes
timestamp(timestamp) -> timestamp
timestamp(string) -> timestamp
timestamp(int) -> timestamp
duration(duration) -> duration
duration(string) -> duration
duration(int) -> duration
size(string) -> int
size(bytes) -> int
size(list(A)) -> int
size(map(A, B)) -> int
string .size() -> int
bytes .size() -> int
list(A) .size() -> int
map(A, B) .size() -> int
matches(string, string) -> bool
string .matches(string) -> bool
string .contains(string) -> bool
string .startsWith(string) -> bool
string .endsWith(string) -> bool
timestamp .getFullYear() -> int
timestamp .getFullYear(string) -> int
timestamp .getMonth() -> int
timestamp .getMonth(string) -> int
timestamp .getDayOfYear() -> int
timestamp .getDayOfYear(string) -> int
timestamp .getDayOfMonth() -> int
timestamp .getDayOfMonth(string) -> int
timestamp .getDate() -> int
timestamp .getDate(string) -> int
timestamp .getDayOfWeek() -> int
timestamp .getDayOfWeek(string) -> int
timestamp .getHours() -> int
timestamp .getHours(string) -> int
timestamp .getMinutes() -> int
timestamp .getMinutes(string) -> int
timestamp .getSeconds() -> int
timestamp .getSeconds(string) -> int
timestamp .getMilliseconds() -> int
timestamp .getMilliseconds(string) -> int
duration .getHours() -> int
duration .getMinutes() -> int
duration .getSeconds() -> int
duration .getMilliseconds() -> int

optional.of(A) -> optional(A)
optional.ofNonZeroValue(A) -> optional(A)
optional.none() -> optional(A)
optional(A) .hasValue() -> bool
optional(A) .value() -> A
optional(A) .or(optional(A)) -> optional(A)
optional(A) .orValue(A) -> A

string .charAt(int) -> string
string .indexOf(string) -> int
string .indexOf(string, int) -> int
string .lastIndexOf(string) -> int
string .lastIndexOf(string, int) -> int
string .lowerAscii() -> string
string .upperAscii() -> string
string .replace(string, string) -> string
string .replace(string, string, int) -> string
string .split(string) -> list(string)
string .split(string, int) -> list(string)
string .substring(int) -> string
string .substring(int, int) -> string
string .trim() -> string
string .format(list(dyn)) -> string
strings.quote(string) -> string
list(string) .join() -> string
list(string) .join(string) -> string
string .find(string) -> string
string .findAll(string) -> list(string)
string .findAll(string, int) -> list(string)

list(int) .isSorted() -> bool
list(uint) .isSorted() -> bool
list(double) .isSorted() -> bool
list(bool) .isSorted() -> bool
list(string) .isSorted() -> bool
list(bytes) .isSorted() -> bool
list(duration) .isSorted() -> bool
list(timestamp) .isSorted() -> bool
list(int) .sum() -> int
list(uint) .sum() -> uint
list(double) .sum() -> double
list(duration) .sum() -> duration
list(int) .min() -> int
list(uint) .min() -> uint
list(double) .min() -> double
list(bool) .min() -> bool
list(string) .min() -> string
list(bytes) .min() -> bytes
list(duration) .min() -> duration
list(timestamp) .min() -> timestamp
list(int) .max() -> int
list(uint) .max() -> uint
list(double) .max() -> double
list(bool) .max() -> bool
list(string) .max() -> string
list(bytes) .max() -> bytes
list(duration) .max() -> duration
list(timestamp) .max() -> timestamp
list(A) .indexOf(A) -> int
list(A) .lastIndexOf(A) -> int
sets.contains(list(A), list(A)) -> bool
sets.equivalent(list(A), list(A)) -> bool
sets.intersects(list(A), list(A)) -> bool

url(string) -> kubernetes.URL
isURL(string) -> bool
kubernetes.URL .getScheme() -> string
kubernetes.URL .getHost() -> string
kubernetes.URL .getHostname() -> string
kubernetes.URL .getPort() -> string
kubernetes.URL .getEscapedPath() -> string
kubernetes.URL .getQuery() -> map(string, list(string))
ip(string) -> net.IP
isIP(string) -> bool
ip.isCanonical(string) -> bool
net.IP .family() -> int
net.IP .isUnspecified() -> bool
net.IP .isLoopback() -> bool
net.IP .isLinkLocalMulticast() -> bool
net.IP .isLinkLocalUnicast() -> bool
net.IP .isGlobalUnicast() -> bool
cidr(string) -> net.CIDR
isCIDR(string) -> bool
net.CIDR .containsIP(net.IP) -> bool
net.CIDR .containsIP(string) -> bool
net.CIDR .containsCIDR(net.CIDR) -> bool
net.CIDR .containsCIDR(string) -> bool
net.CIDR .ip() -> net.IP
net.CIDR .masked() -> net.CIDR
net.CIDR .prefixLength() -> int
quantity(string) -> kubernetes.Quantity
isQuantity(string) -> bool
kubernetes.Quantity .isInteger() -> bool
kubernetes.Quantity .asInteger() -> int
kubernetes.Quantity .asApproximateFloat() -> double
kubernetes.Quantity .sign() -> int
kubernetes.Quantity .add(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity .add(int) -> kubernetes.Quantity
kubernetes.Quantity .sub(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity .sub(int) -> kubernetes.Quantity
kubernetes.Quantity .isLessThan(kubernetes.Quantity) -> bool
kubernetes.Quantity .isGreaterThan(kubernetes.Quantity) -> bool
kubernetes.Quantity .compareTo(kubernetes.Quantity) -> int
semver(string) -> kubernetes.Semver
semver(string, bool) -> kubernetes.Semver
isSemver(string) -> bool
isSemver(string, bool) -> bool
kubernetes.Semver .major() -> int
kubernetes.Semver .minor() -> int
kubernetes.Semver .patch() -> int
kubernetes.Semver .isLessThan(kubernetes.Semver) -> bool
kubernetes.Semver .isGreaterThan(kubernetes.Semver) -> bool
kubernetes.Semver .compareTo(kubernetes.Semver) -> int
format.named(string) -> optional(kubernetes.NamedFormat)
format.dns1123Label() -> kubernetes.NamedFormat
format.dns1123Subdomain() -> kubernetes.NamedFormat
format.dns1035Label() -> kubernetes.NamedFormat
format.qualifiedName() -> kubernetes.NamedFormat
format.dns1123LabelPrefix() -> kubernetes.NamedFormat
format.dns1123SubdomainPrefix() -> kubernetes.NamedFormat
format.dns1035LabelPrefix() -> kubernetes.NamedFormat
format.labelValue() -> kubernetes.NamedFormat
format.uri() -> kubernetes.NamedFormat
format.uuid() -> kubernetes.NamedFormat
format.byte() -> kubernetes.NamedFormat
format.date() -> kubernetes.NamedFormat
format.datetime() -> kubernetes.NamedFormat
kubernetes.NamedFormat .validate(string) -> optional(list(string))
";

/// One way to call something.
#[derive(Debug, PartialEq)]
pub(crate) struct Overload {
    pub(crate) target: Option<Type>,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

/// The ways in which `name` may be called.
pub(crate) fn overloads(name: &str) -> &'static [Overload] {
    static READ: LazyLock<BTreeMap<String, Vec<Overload>>> = LazyLock::new(read);
    READ.get(name).map_or(&[], Vec::as_slice)
}

fn read() -> BTreeMap<String, Vec<Overload>> {
    let mut table: BTreeMap<String, Vec<Overload>> = BTreeMap::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let (name, overload) = declaration(line).unwrap_or_else(|| panic!("`{line}` is no declaration"));
        // What orders two values orders them both ways.
        if name == "_<_" {
            for other in ["_<=_", "_>_", "_>=_"] {
                let (_, overload) = declaration(line).expect("it was read above");
                table.entry(other.into()).or_default().push(overload);
            }
        }
        table.entry(name).or_default().push(overload);
    }
    table
}

fn declaration(line: &str) -> Option<(String, Overload)> {
    let (call, result) = line.rsplit_once(" -> ")?;
    let (target, call) = match call.split_once(" .") {
        Some((target, call)) => (Some(type_of(target)?), call),
        None => (None, call),
    };
    let (name, args) = call.strip_suffix(')')?.split_once('(')?;
    let args = split(args).into_iter().map(type_of).collect::<Option<_>>()?;
    Some((name.to_owned(), Overload { target, args, result: type_of(result)? }))
}

/// Arguments at commas that stand in no brackets.
fn split(args: &str) -> Vec<&str> {
    let mut depth = 0;
    let at_top = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    args.split(at_top).map(str::trim).filter(|arg| !arg.is_empty()).collect()
}

fn type_of(text: &str) -> Option<Type> {
    if let Some((outside, inside)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let mut inside = split(inside).into_iter().map(type_of).collect::<Option<Vec<_>>>()?.into_iter();
        let first = Box::new(inside.next()?);
        return Some(match outside {
            "list" => Type::List(first),
            "optional" => Type::Optional(first),
            "type" => Type::Type(first),
            "map" => Type::Map(first, Box::new(inside.next()?)),
            _ => return None,
        });
    }
    match text {
        "dyn" => Some(Type::Dyn),
        "timestamp" => Some(Type::Timestamp),
        "duration" => Some(Type::Duration),
        param if param.len() == 1 => Some(Type::Param(param.into(), 0)),
        name => Type::named(name),
    }
}

/// A declared type for one use: its parameters are told apart from those of other uses.
pub(crate) fn fresh(of: &Type, number: usize) -> Type {
    let inside = |of: &Type| Box::new(fresh(of, number));
    match of {
        Type::Param(name, _) => Type::Param(name.clone(), number),
        Type::List(of) => Type::List(inside(of)),
        Type::Optional(of) => Type::Optional(inside(of)),
        Type::Type(of) => Type::Type(inside(of)),
        Type::Map(key, value) => Type::Map(inside(key), inside(value)),
        other => other.clone(),
    }
}
