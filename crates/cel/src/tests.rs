//! Tables of expressions and their answers.

use super::*;

fn names() -> Vec<(String, Type)> {
    let fields = [
        ("name", Type::String),
        ("n", Type::Int),
        ("port", Type::Dyn),
        ("tags", Type::list(Type::String)),
        ("labels", Type::map(Type::String)),
    ];
    let fields: Fields = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    vec![("self".into(), Type::Object(fields.into()))]
}

fn subject() -> Value {
    let text = |t: &str| Value::String(std::sync::Arc::new(t.into()));
    let labels = std::collections::HashMap::from([("a", text("1")), ("b", text("2"))]);
    let fields = std::collections::HashMap::from([
        ("name", text("wörld")),
        ("n", Value::Int(3)),
        ("port", Value::Int(80)),
        ("tags", vec![text("x"), text("y")].into()),
        ("labels", Value::Map(labels.into())),
    ]);
    Value::Map(fields.into())
}

fn run(text: &str) -> Result<Value, String> {
    let program = Program::compile(text, &names()).map_err(|faults| faults.to_string())?;
    program.run(vec![("self".into(), subject())], &mut 1_000_000).map_err(|failure| failure.to_string())
}

/// Every line holds.
fn hold(lines: &str) {
    let wrong: Vec<String> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .filter_map(|line| match run(line) {
            Ok(Value::Bool(true)) => None,
            other => Some(format!("{line}\n    {other:?}")),
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every line `expression => answer` is refused or fails with that answer.
fn fail(lines: &str) {
    let mut wrong = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, answer) = line.split_once(" => ").expect("a line has an answer");
        let found = match run(text) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.lines().next().unwrap_or_default().to_owned(),
        };
        if found != answer {
            wrong.push(format!("{text}\n    found  {found}\n    wanted {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn types_are_values() {
    hold(
        "
        type(self.port) == int
        type(self.name) == string
        type(1u) == uint && type(1.0) == double && type(true) == bool && type(b'x') == bytes
        type(null) == null_type && type([1]) == list && type({1: 2}) == map && type(int) == type
        type(timestamp('2024-01-02T03:04:05Z')) == google.protobuf.Timestamp
        type(duration('1h')) == google.protobuf.Duration
        type(ip('10.0.0.1')) == net.IP && type(optional.none()) == optional_type
        type(self.port) == int ? self.port > 0 : self.port != ''
        type(self.port) != string
    ",
    );
}

#[test]
fn operators_and_conversions() {
    hold(
        "
        1 + 2 * 3 - 4 / 2 % 5 == 5 && -(-1) == 1 && - 1 == -1
        -9223372036854775808 < 0 && 0x10 == 16 && 1e3 == 1000.0
        dyn(1) == 1.0 && 2u > 1 && 1 < 1.5 && dyn(1.0) in [1, 2]
        'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2]
        dyn({'a': 1}) == {'a': 1.0} && dyn('1') != dyn(1)
        'a' in {'a': 1} && !('b' in {'a': 1}) && 2 in [1, 2]
        (false && self.tags[9] == '') == false && (self.tags[9] == '' || true)
        self.n > 2 ? true : false
        int('12') == 12 && int(1.9) == 1 && uint(3) == 3u && double('1.5') == 1.5 && string(12) == '12'
        string(1.5) == '1.5' && string(true) == 'true' && string(b'abc') == 'abc' && bool('true')
        bytes('ö').size() == 2 && 'ö'.size() == 1 && size(self.name) == 5
        string(timestamp('2024-01-02T03:04:05Z')) == '2024-01-02T03:04:05Z' && string(duration('90s')) == '90s'
        timestamp(0) == timestamp('1970-01-01T00:00:00Z')
        timestamp('2024-01-02T03:04:05Z') + duration('1h') > timestamp('2024-01-02T04:04:04Z')
        timestamp('2024-01-02T03:04:05Z').getFullYear() == 2024 && timestamp('2024-01-02T03:04:05Z').getMonth() == 0
        timestamp('2024-01-02T03:04:05Z').getHours('Europe/Berlin') == 4 && duration('90m').getMinutes() == 90
        timestamp('2024-01-02T03:04:05Z').getHours('-08:00') == 19
        r'a\\n' == 'a\\\\n' && '\\u00f6' == 'ö' && '\\x41' == 'A' && \"\"\"a\"\"\" == 'a'
    ",
    );
}

#[test]
fn macros_bind_one_name_or_two() {
    hold(
        "
        has(self.name) && !has({'a': 1}.b) && has(self.labels.a)
        self.tags.all(t, t.size() == 1) && self.tags.exists(t, t == 'x') && self.tags.exists_one(t, t == 'x')
        self.tags.map(t, t + '!') == ['x!', 'y!'] && self.tags.filter(t, t != 'x') == ['y']
        self.tags.map(t, t != 'x', t + '!') == ['y!']
        self.labels.all(k, k in ['a', 'b']) && self.labels.exists(k, self.labels[k] == '2')
        self.tags.all(i, t, i < 2 && t != '') && self.tags.exists(i, t, i == 1 && t == 'y')
        self.labels.existsOne(k, v, k == 'a' && v == '1')
        self.tags.transformList(i, t, t + string(i)) == ['x0', 'y1']
        self.tags.transformList(i, t, i > 0, t) == ['y']
        self.labels.transformMap(k, v, v + v) == {'a': '11', 'b': '22'}
        self.labels.transformMap(k, v, k == 'a', v) == {'a': '1'}
        self.labels.transformMapEntry(k, v, {v: k}) == {'1': 'a', '2': 'b'}
        [1, 2].all(x, [1, 2].exists(y, x == y)) && [[1], [2]].all(l, l.size() == 1)
        [0, 1].exists(x, 1 / x == 1) && !([0, 1].all(x, 1 / x == 5))
    ",
    );
}

#[test]
fn optional_values() {
    hold(
        "
        self.?name.hasValue() && self.?name.orValue('') == 'wörld' && self.labels.?zzz.orValue('none') == 'none'
        self.labels[?'a'].value() == '1' && !self.labels[?'zzz'].hasValue() && self.tags[?9].orValue('last') == 'last'
        {'a': {'b': 1}}.?a.b.orValue(0) == 1 && {'a': {'b': 1}}.?c.b.orValue(7) == 7
        optional.of(1).value() == 1 && !optional.none().hasValue() && !optional.ofNonZeroValue('').hasValue()
        optional.none().or(optional.of(2)).value() == 2 && optional.of(1) == optional.of(1)
        self.?name.optMap(n, n + '!').orValue('') == 'wörld!' && self.labels.?zzz.optMap(n, n + '!') == optional.none()
        self.labels.?a.optFlatMap(x, optional.of(x + x)).value() == '11'
        [?self.labels.?a, ?self.labels.?zzz, 'z'] == ['1', 'z'] && {?'k': self.labels.?zzz} == {}
    ",
    );
}

#[test]
fn strings() {
    hold("
        'ABC'.lowerAscii() == 'abc' && 'abc'.upperAscii() == 'ABC' && ' a '.trim() == 'a'
        'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && ['a', 'b'].join('-') == 'a-b'
        ['a', 'b'].join() == 'ab' && 'aaa'.replace('a', 'b') == 'bbb' && 'aaa'.replace('a', 'b', 2) == 'bba'
        'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'wörld'.substring(1, 2) == 'ö'
        'wörld'.charAt(1) == 'ö' && 'wörld'.indexOf('r') == 2 && 'abcabc'.lastIndexOf('abc') == 3 && 'abcabc'.indexOf('a', 1) == 3
        'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.matches('^a.c$') && matches('abc', 'b')
        '%d items of %s'.format([dyn(3), 'x']) == '3 items of x' && '%.2f'.format([1.5]) == '1.50' && '%x %b'.format([255, 5]) == 'ff 101'
        '%s'.format([self.tags]) == '[\"x\", \"y\"]' && '%s'.format([true]) == 'true' && '%%'.format([]) == '%'
        strings.quote('a\"b') == '\"a\\\\\"b\"'
        'abc 123'.find('[0-9]+') == '123' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1b22'.findAll('[0-9]+', 1) == ['1']
    ");
}

#[test]
fn lists_and_sets() {
    hold("
        [1, 2, 3].isSorted() && !['b', 'a'].isSorted() && [1, 2, 3].sum() == 6 && [1.5, 1.5].sum() == 3.0
        [3, 1, 2].min() == 1 && [3, 1, 2].max() == 3 && ['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2
        [duration('1s'), duration('2s')].sum() == duration('3s') && [].sum() == 0 && [].isSorted()
        sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1, 2], [2, 3])
    ");
}

#[test]
fn libraries_of_kubernetes() {
    hold("
        isURL('https://u@example.com:80/p?q=1') && !isURL('../rel') && url('https://example.com:80/p?q=1').getHost() == 'example.com:80'
        url('https://example.com:80/p?q=1').getHostname() == 'example.com' && url('https://example.com:80/p?q=1').getPort() == '80'
        url('https://example.com/a b').getEscapedPath() == '/a%20b' && url('https://x/?q=1&q=2').getQuery() == {'q': ['1', '2']}
        url('https://x/').getScheme() == 'https'
        isIP('10.0.0.1') && !isIP('10.0.0.300') && ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && ip.isCanonical('::1')
        ip('10.0.0.1').isGlobalUnicast() && string(ip('10.0.0.1')) == '10.0.0.1' && ip('10.0.0.1') == ip('10.0.0.1')
        isCIDR('10.0.0.0/8') && cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').containsIP(ip('10.1.1.1'))
        cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.0.0.0/8').prefixLength() == 8
        cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')
        isQuantity('1.5Gi') && !isQuantity('x') && quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1k') == quantity('1000')
        quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('10k')).asInteger() == 40000
        quantity('1.5').isInteger() == false && quantity('0.5').asApproximateFloat() == 0.5 && quantity('-1').sign() == -1
        quantity('1').compareTo(quantity('2')) == -1
        isSemver('1.2.3') && !isSemver('v1.2') && isSemver('v1.2', true) && semver('1.2.3').isLessThan(semver('1.10.0'))
        semver('1.2.3').major() == 1 && semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('v1.2', true) == semver('1.2.0')
        !format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My').hasValue()
        format.named('dns1123Label').hasValue() && !format.named('unheard').hasValue() && format.uuid().validate('x').hasValue()
        !format.named('date').value().validate('2024-01-02').hasValue()
    ");
}

#[test]
fn what_cannot_work_is_refused_in_the_words_of_the_real_server() {
    fail("
        self.zzz == 'x' => ERROR: <input>:1:5: undefined field 'zzz'
        self.n == 'x' => ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'
        nope(self.name) => ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')
        has(self.q) => ERROR: <input>:1:4: undefined field 'q'
        self.name.lowerAscii(1) => ERROR: <input>:1:21: found no matching overload for 'lowerAscii' applied to 'string.(int)'
        [1, 'a'].size() == 2 => ERROR: <input>:1:5: expected type 'int' but found 'string'
        self.n.x == 1 => ERROR: <input>:1:7: type 'int' does not support field selection
        self.?name == 'x' => ERROR: <input>:1:12: found no matching overload for '_==_' applied to '(optional_type(string), string)'
        self.name.matches('[') => ERROR: <input>:1:19: invalid matches argument
        self.n.all(x, true) => ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)
        has(self) => ERROR: <input>:1:5: invalid argument to has() macro
        self.name = 'x' => ERROR: <input>:1:11: Syntax error: token recognition error at: '= '
        self.name + => ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
        math.greatest(1, 2) == 2 => ERROR: <input>:1:1: undeclared reference to 'math' (in container '')
        Some{a: 1} == 1 => ERROR: <input>:1:5: undeclared reference to 'Some' (in container '')
    ");
}

#[test]
fn a_fault_is_shown_below_its_line() {
    let faults = Program::compile("base64.decode(self.name) == b'x'", &names()).unwrap_err().to_string();
    assert_eq!(
        faults,
        "ERROR: <input>:1:1: undeclared reference to 'base64' (in container '')\n | base64.decode(self.name) == b'x'\n | ^\n\
         ERROR: <input>:1:14: undeclared reference to 'decode' (in container '')\n | base64.decode(self.name) == b'x'\n | .............^"
    );
    let second = Program::compile("true &&\n self.q", &names()).unwrap_err().to_string();
    assert_eq!(second, "ERROR: <input>:2:6: undefined field 'q'\n |  self.q\n | .....^");
}

#[test]
fn what_goes_wrong_only_when_it_is_run() {
    fail(
        "
        1 / (self.n - 3) => division by zero
        {'a': 1}.b => no such key: b
        self.labels['zzz'] => no such key: zzz
        self.tags[2] => index out of bounds: 2
        9223372036854775807 + 1 => integer overflow
        optional.none().value() => optional.none() dereference
        dyn('a') < dyn(1) => no such overload
    ",
    );
}

#[test]
fn what_is_as_deep_as_allowed_runs_on_a_small_stack() {
    let long = format!("1{} == 191", "+1".repeat(190));
    let deep = format!("{}1{} == 1", "(".repeat(60), ")".repeat(60));
    let nested = (0..60).fold("true".to_owned(), |inside, n| format!("[1].all(x{n}, {inside})"));
    for text in [long, deep, nested] {
        assert_eq!(run(&text), Ok(Value::Bool(true)), "{text:.20}");
    }
}

#[test]
fn what_runs_too_long_is_stopped() {
    let list = format!("[{}]", vec!["1"; 200].join(","));
    let text = format!("{list}.all(a, {list}.all(b, {list}.all(c, a == b && b == c)))");
    assert_eq!(run(&text), Err("operation cancelled: actual cost limit exceeded".into()));
    for deep in [
        format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
        format!("1{}", "+1".repeat(9999)),
        format!("self{}", ".a".repeat(9999)),
    ] {
        assert!(run(&deep).is_err_and(|error| error.contains("recursion limit exceeded")), "{deep:.20}");
    }
}
