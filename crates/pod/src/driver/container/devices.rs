//! What devices a container may use, as control groups of both versions are told it.

use std::{
    fs,
    io::{self, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
};

use crate::driver::cgroup::Group;

/// What every container finds in `/dev`: character devices that anybody may use.
pub(super) const COMMON: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Kinds of devices and of accesses, as the kernel numbers them.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const ANY: u32 = 7;

const DENIED: &str = "devices.deny";

/// What is allowed; no number stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    kind: u32,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// Anybody may make devices, who has the capability to: what counts is who may open them.
fn rules() -> Vec<Rule> {
    let rule = |kind, major, minor, access| Rule { kind, major, minor, access };
    let character = |major, minor| rule(CHARACTER, Some(major), minor, ANY);
    let mut rules = vec![rule(CHARACTER, None, None, MAKE), rule(BLOCK, None, None, MAKE)];
    rules.extend(COMMON.map(|(_, major, minor)| character(major, Some(minor))));
    // The console, the maker of terminals, terminals, and tunnels.
    rules.extend([character(5, Some(1)), character(5, Some(2)), character(136, None), character(10, Some(200))]);
    rules
}

/// Denies everything else to a group, and to those that will lie in it. Where there is a controller of version 1 for it, version 2
/// has nothing to add.
pub(super) fn restrict(group: &Group) -> io::Result<()> {
    let directories = group.directories();
    let done = match directories.iter().find(|directory| directory.join(DENIED).exists()) {
        Some(directory) => restrict_v1(directory),
        None => group.unified().map_or(Ok(()), |unified| restrict_v2(unified.as_fd())),
    };
    done.map_err(|error| io::Error::new(error.kind(), format!("cannot restrict devices: {error}")))
}

fn restrict_v1(group: &Path) -> io::Result<()> {
    fs::write(group.join(DENIED), "a")?;
    // Each write is a rule.
    let mut allowed = fs::File::options().write(true).open(group.join("devices.allow"))?;
    rules().iter().try_for_each(|rule| allowed.write_all(line(rule).as_bytes()))
}

fn line(rule: &Rule) -> String {
    let kind = if rule.kind == BLOCK { "b" } else { "c" };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let access = if rule.access == MAKE { "m" } else { "rwm" };
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

/// By a program that the kernel asks.
fn restrict_v2(group: BorrowedFd<'_>) -> io::Result<()> {
    const ATTACH: libc::c_long = 8;
    const DEVICES_OF_GROUP: u32 = 6;
    /// Those of the groups below have a say, too: of a container whose pod was not restricted, or by an engine of its own.
    const WITH_OTHERS: u32 = 1 << 1;
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let program = load(&program(&rules()))?;
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: DEVICES_OF_GROUP,
        flags: WITH_OTHERS,
    };
    bpf(ATTACH, &attach).map(drop)
}

/// One instruction of the kernel's machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// The register it acts on, and four bits higher the one it reads.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Load a word of memory; `if register == value`, `if register != value` and `if register & value` jump; operations.
const LOAD_WORD: u8 = 0x61;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_IF_ANY: u8 = 0x45;
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const RETURN: u8 = 0x95;

/// Registers: the answer, the question, and what was read of it.
const ANSWER: u8 = 0;
const QUESTION: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn program(rules: &[Rule]) -> Vec<Instruction> {
    let instruction =
        |code, to: u8, from: u8, offset, value| Instruction { code, registers: to | from << 4, offset, value };
    // The question is three words: access above kind, major, minor.
    let mut program = vec![
        instruction(LOAD_WORD, KIND, QUESTION, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, QUESTION, 4, 0),
        instruction(LOAD_WORD, MINOR, QUESTION, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![(JUMP_UNLESS_EQUAL, KIND, rule.kind)];
        if rule.access != ANY {
            tests.push((JUMP_IF_ANY, ACCESS, ANY & !rule.access));
        }
        tests.extend(rule.major.map(|major| (JUMP_UNLESS_EQUAL, MAJOR, major)));
        tests.extend(rule.minor.map(|minor| (JUMP_UNLESS_EQUAL, MINOR, minor)));
        let count = tests.len();
        for (number, (code, register, value)) in tests.into_iter().enumerate() {
            // Over the tests that are left, and over the answer.
            let rest = i16::try_from(count - number + 1).unwrap_or(i16::MAX);
            program.push(instruction(code, register, 0, rest, value.cast_signed()));
        }
        program.push(instruction(MOVE, ANSWER, 0, 0, 1));
        program.push(instruction(RETURN, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE, ANSWER, 0, 0, 0));
    program.push(instruction(RETURN, 0, 0, 0, 0));
    program
}

#[expect(unsafe_code, reason = "no safe bpf")]
fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const LOAD: libc::c_long = 5;
    const FOR_DEVICES: u32 = 15;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        /// Of the verifier's log and what follows: nothing.
        rest: [u64; 4],
    }
    let load = Load {
        kind: FOR_DEVICES,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 4],
    };
    let fd = bpf(LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "no safe bpf")]
fn bpf<T>(command: libc::c_long, arguments: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a structure that it knows for this command, and what its pointers
    // lead to outlives the call.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(arguments), size_of::<T>()) };
    match i32::try_from(outcome) {
        Ok(descriptor @ 0..) => Ok(descriptor),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, run as the kernel would.
    fn answer(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> i32 {
        let memory = [access << 16 | kind, major, minor];
        let mut registers = [0u32; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, value } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let operand = value.cast_unsigned();
            let mut jump = false;
            match code {
                LOAD_WORD => registers[to] = memory[usize::try_from(offset).expect("forward") / 4],
                COPY => registers[to] = registers[from],
                MOVE => registers[to] = operand,
                AND => registers[to] &= operand,
                SHIFT_RIGHT => registers[to] >>= operand,
                JUMP_UNLESS_EQUAL => jump = registers[to] != operand,
                JUMP_IF_ANY => jump = registers[to] & operand != 0,
                RETURN => return registers[usize::from(ANSWER)].cast_signed(),
                other => panic!("no such instruction: {other:#x}"),
            }
            at += 1 + if jump { usize::try_from(offset).expect("forward") } else { 0 };
        }
    }

    #[test]
    fn a_container_opens_the_usual_devices_and_makes_any() {
        const READ: u32 = 2;
        let program = program(&rules());
        let cases = [
            (CHARACTER, ANY, 1, 3, 1),
            (CHARACTER, READ, 1, 9, 1),
            (CHARACTER, ANY, 136, 77, 1),
            (CHARACTER, ANY, 5, 2, 1),
            (CHARACTER, MAKE, 1, 1, 1),
            (CHARACTER, READ, 1, 1, 0),
            (CHARACTER, READ | MAKE, 1, 1, 0),
            (BLOCK, MAKE, 254, 0, 1),
            (BLOCK, READ, 254, 0, 0),
            (BLOCK, READ, 1, 3, 0),
        ];
        for (kind, access, major, minor, expected) in cases {
            assert_eq!(answer(&program, kind, access, major, minor), expected, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn version_1_is_told_the_same_in_words() {
        let lines: Vec<String> = rules().iter().map(line).collect();
        let expected = [
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:1 rwm",
            "c 5:2 rwm",
            "c 136:* rwm",
            "c 10:200 rwm",
        ];
        assert_eq!(lines, expected);
    }
}
