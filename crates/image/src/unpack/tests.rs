//! Layers made here, unpacked, and shown as a tree; hostile ones among them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::fs::{AtFlags, CWD, FileType, statat};

use super::*;
use crate::limits::Limits;

const RIGHTS: fn() -> Rights = || Rights { root: rustix::process::geteuid().is_root() };

/// An archive out of lines: `d path`, `f path text`, `l path target`, `h path target`, `p path`, `c path`.
fn archive(lines: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (kind, path, rest) = (word(), word(), word());
        let mut header = tar::Header::new_gnu();
        let (kind, mode, content) = match kind.as_str() {
            "d" => (b'5', 0o750, ""),
            "f" => (b'0', 0o640, rest.as_str()),
            "s" => (b'0', 0o4755, rest.as_str()),
            "l" => (b'2', 0o777, ""),
            "h" => (b'1', 0o640, ""),
            "p" => (b'6', 0o600, ""),
            "c" => (b'3', 0o600, ""),
            other => panic!("kind {other}"),
        };
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        if matches!(kind, b'1' | b'2') {
            header.as_mut_bytes()[157..157 + rest.len()].copy_from_slice(rest.as_bytes());
        }
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000);
        header.set_device_major(1).expect("gnu");
        header.set_device_minor(3).expect("gnu");
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

struct Tree {
    base: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { base: tempfile::tempdir().expect("a directory") };
        fs::create_dir(tree.path()).expect("made");
        fs::write(tree.base.path().join("outside"), "untouched").expect("written");
        tree
    }

    fn path(&self) -> std::path::PathBuf {
        self.base.path().join("fs")
    }

    fn unpack(&self, bytes: &[u8], limits: Limits) -> Result<Unpacked, UnpackError> {
        let unpacked = unpack(bytes, &self.path(), &Digest::of(bytes), &Budget::new(limits), RIGHTS());
        assert_eq!(fs::read_to_string(self.base.path().join("outside")).expect("there"), "untouched");
        let beside = fs::read_dir(self.base.path()).expect("readable").count();
        assert_eq!(beside, 2, "nothing is made beside the layer");
        unpacked
    }

    /// `path`, `path/`, `path=text`, `path->target`, `path!` for a whiteout, `path/!` for an opaque directory.
    fn show(&self) -> String {
        let mut lines = Vec::new();
        walk(&self.path(), &self.path(), &mut lines);
        lines.sort();
        lines.join(" ")
    }
}

fn walk(root: &Path, directory: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.strip_prefix(root).expect("below").display().to_string();
        let stat = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).expect("there");
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let mut value = [0; 2];
                let opaque = rustix::fs::getxattr(&path, whiteout::opaque_attribute(RIGHTS()), &mut value[..]).is_ok();
                lines.push(format!("{name}/{}", if opaque { "!" } else { "" }));
                walk(root, &path, lines);
            }
            FileType::Symlink => lines.push(format!("{name}->{}", fs::read_link(&path).expect("a link").display())),
            FileType::RegularFile => lines.push(format!("{name}={}", fs::read_to_string(&path).expect("text"))),
            FileType::CharacterDevice if stat.st_rdev == 0 => lines.push(format!("{name}!")),
            other => lines.push(format!("{name}:{other:?}")),
        }
    }
}

fn check(lines: &str, expected: &str) {
    let tree = Tree::new();
    let result = tree.unpack(&archive(lines), Limits::default());
    let shown = match result {
        Ok(_) => tree.show(),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("! {error}{cause}")
        }
    };
    assert_eq!(shown, expected, "{lines}");
}

#[test]
fn entries_become_files() {
    check("d a; f a/b text; l a/l b; h a/h a/b; p a/p", "a/ a/b=text a/h=text a/l->b a/p:Fifo");
    check("f a one; f a two", "a=two");
    check("f a one; d a; f a/b x", "a/ a/b=x");
    check("d a; f a/b x; l a b", "a->b");
    check("d a; f a/b x; d a", "a/ a/b=x");
    check("f ./a x; f /b y; f c/../d z", "a=x b=y d=z");
    check("f a x; h a a", "a=x");
}

#[test]
fn whiteouts_hide_what_lies_below_and_not_what_is_new() {
    check("f .wh.a", "a!");
    check("f d/.wh.a", "d/ d/a!");
    check("f d/.wh..wh..opq; f d/new x", "d/! d/new=x");
    check("f d/new x; f d/.wh..wh..opq", "d/! d/new=x");
    check("f .wh.a; f a new", "a=new");
    check("f a new; f .wh.a", "a=new");
    check("f .wh.d; d d; f d/new x", "d/! d/new=x");
    check("f .wh.d; f d/new x", "d/! d/new=x");
    check("f d/new x; f .wh.d", "d/! d/new=x");
    check("f .wh..wh.plnk/1", ".wh..wh.plnk/ .wh..wh.plnk/1=");
    check("f .wh..", "! entry `.wh..` is an unusable whiteout");
    check("f .wh.", "! entry `.wh.` is an unusable whiteout");
}

#[test]
fn no_entry_leads_out_of_the_layer() {
    check("f ../outside x", "! entry `../outside` leads out of the image");
    check("f a/../../outside x", "! entry `a/../../outside` leads out of the image");
    check("h a ../outside", "! entry `../outside` leads out of the image");
    check("f ../.wh.outside", "! entry `../.wh.outside` leads out of the image");
    // Links are followed as the container would follow them: its root is the end of the way up.
    check("l up ../..; f up/outside x", "outside=x up->../..");
    check("l abs /; f abs/outside x", "abs->/ outside=x");
    check("l a /etc; f a/passwd x", "a->/etc etc/ etc/passwd=x");
    check("l a b; l b a; f a/x y", "! entry `a`: more than 40 symbolic links on the way");
    check("l a ../outside; f a new", "a=new");
    check("l a ../../outside; h b a; f b x", "a->../../outside b=x");
    check("f a x; f a/b y", "! entry `a`: `a` is no directory");
    check("d d; l d/up ..; f d/up/up2 x; f d/.wh.up", "d/ d/up->.. up2=x");
    check("l p /proc/1; f p/outside x", "p->/proc/1 proc/ proc/1/ proc/1/outside=x");
}

#[test]
fn modes_and_times_come_last() {
    let tree = Tree::new();
    tree.unpack(&archive("d ./; d a; s a/su x; f a/b text"), Limits::default()).expect("unpacked");
    let stat = |name: &str| {
        let meta = fs::metadata(tree.path().join(name)).expect(name);
        (meta.permissions().mode() & 0o7777, meta.mtime())
    };
    assert_eq!(stat("a/su"), (0o4755, 1_000));
    assert_eq!(stat("a/b"), (0o640, 1_000));
    assert_eq!(stat("a"), (0o750, 1_000), "what was made in it later does not show");
    assert_eq!(stat(""), (0o750, 1_000));
}

#[test]
fn attributes_of_overlayfs_are_not_the_images_to_set() {
    let mut builder = tar::Builder::new(Vec::new());
    let attributes = [
        ("SCHILY.xattr.user.mine", b"1".as_slice()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"label"),
    ];
    builder.append_pax_extensions(attributes).expect("written");
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    builder.append_data(&mut header, "file", &b""[..]).expect("written");
    let tree = Tree::new();
    tree.unpack(&builder.into_inner().expect("an archive"), Limits::default()).expect("unpacked");
    let mut names = vec![0; 1000];
    let length = rustix::fs::listxattr(tree.path().join("file"), &mut names[..]).expect("listed");
    let names: Vec<&[u8]> = names[..length].split(|b| *b == 0).filter(|name| name.contains(&b'.')).collect();
    assert_eq!(names, [b"user.mine"]);
}

#[test]
fn bombs_and_lies_are_refused() {
    let bytes = archive("f a text; f b text");
    let refused = |limits: Limits, bytes: &[u8]| Tree::new().unpack(bytes, limits).expect_err("refused").to_string();
    let few = Limits { layer_entries: 1, ..Limits::default() };
    assert_eq!(refused(few, &bytes), "layer has more than 1 entries: limit `layer_entries`");
    let small = Limits { layer_bytes: 2_000, ..Limits::default() };
    assert!(refused(small, &bytes).ends_with("limit `layer_bytes`"));
    // A file of one terabyte that is all hole.
    let record = |text: &str| format!("{} {text}\n", text.len() + 4);
    let pax = record("GNU.sparse.size=1099511627776") + &record("GNU.sparse.map=0,0");
    let mut holes = Vec::new();
    for (kind, content) in [(b'x', pax.as_str()), (b'0', "")] {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[0] = b'n';
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        holes.extend(header.as_bytes());
        holes.extend(content.as_bytes());
        holes.resize(holes.len().next_multiple_of(512), 0);
    }
    assert!(refused(Limits::default(), &holes).contains("limit `layer_bytes`"));
    let tree = Tree::new();
    let lie = unpack(&bytes[..], &tree.path(), &Digest::of(b"else"), &Budget::new(Limits::default()), RIGHTS());
    assert!(matches!(lie, Err(UnpackError::DiffId { .. })), "{lie:?}");
}

#[test]
fn depth_is_bounded_however_it_is_written() {
    // A header holds a hundred letters; links make a way longer than any name.
    let steps = "/d".repeat(40);
    let links: String = (0..9).map(|n| format!("l l{n} l{}{steps}; ", n + 1)).collect();
    let error = Tree::new().unpack(&archive(&format!("{links} f l0/x y")), Limits::default()).expect_err("too deep");
    let error = error.to_string();
    assert!(error.starts_with("entry `l9/d/d") && error.ends_with("`: more than 256 directories deep"), "{error}");
}

#[test]
fn names_that_must_be_remembered_are_bounded() {
    let lines: String = (0..100).map(|n| format!("d directory{n};")).collect();
    let small = Limits { layer_names: 10_000, ..Limits::default() };
    let error = Tree::new().unpack(&archive(&lines), small).expect_err("refused").to_string();
    assert_eq!(error, "layer has more than 10000 bytes of names: limit `layer_names`");
    Tree::new().unpack(&archive(&lines), Limits::default()).expect("unpacked");
}

/// Links to large files of a lower layer bring a copy of each into this one.
#[test]
fn what_links_bring_from_below_is_bounded() {
    let text = "x".repeat(2_000);
    let lower = format!("f a {text}; f b {text}");
    let small = Limits { layer_bytes: 3_000, ..Limits::default() };
    check_settled_within(small, &["f a x"], "h link a", "a=x link=x");
    let tree = Tree::new();
    tree.unpack(&archive(&lower), Limits::default()).expect("a lower layer");
    let top = Tree::new();
    let mut unpacked = top.unpack(&archive("h l1 a; h l2 a; h l3 b"), Limits::default()).expect("the layer");
    let error =
        settle(&top.path(), &mut unpacked, &[&tree.path()], &Budget::new(small), RIGHTS()).expect_err("bounded");
    assert_eq!(error.to_string(), "layer has more than 3000 bytes: limit `layer_bytes`");
}

#[test]
fn holes_of_a_file_below_stay_holes() {
    use std::os::unix::fs::FileExt as _;
    const SIZE: u64 = 1 << 30;
    let lower = Tree::new();
    let file = fs::File::create(lower.path().join("a")).expect("made");
    file.set_len(SIZE).expect("set");
    file.write_all_at(b"in the middle", SIZE / 2).expect("written");
    let top = Tree::new();
    let mut unpacked = top.unpack(&archive("h link a"), Limits::default()).expect("the layer");
    settle(&top.path(), &mut unpacked, &[&lower.path()], &Budget::new(Limits::default()), RIGHTS()).expect("settled");
    let meta = fs::metadata(top.path().join("link")).expect("there");
    assert!(meta.len() == SIZE && meta.blocks() * 512 < 10 << 20, "{} blocks", meta.blocks());
    let mut text = [0; 13];
    fs::File::open(top.path().join("link")).expect("opened").read_exact_at(&mut text, SIZE / 2).expect("read");
    assert_eq!(&text, b"in the middle");
}

#[test]
fn devices_are_made_where_they_may_be() {
    let tree = Tree::new();
    tree.unpack(&archive("c null"), Limits::default()).expect("devices never fail a layer");
    assert_eq!(tree.show(), if RIGHTS().root { "null:CharacterDevice" } else { "" });
}

/// Layers bottom first; the last one is settled upon the others and shown.
fn check_settled(lowers: &[&str], top: &str, expected: &str) -> Tree {
    check_settled_within(Limits::default(), lowers, top, expected)
}

fn check_settled_within(limits: Limits, lowers: &[&str], top: &str, expected: &str) -> Tree {
    let lowers: Vec<Tree> = lowers
        .iter()
        .map(|lines| {
            let tree = Tree::new();
            tree.unpack(&archive(lines), Limits::default()).expect("a lower layer");
            tree
        })
        .collect();
    let tree = Tree::new();
    let mut unpacked = tree.unpack(&archive(top), Limits::default()).expect("the layer");
    let paths: Vec<_> = lowers.iter().map(Tree::path).collect();
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    let shown = match settle(&tree.path(), &mut unpacked, &paths, &Budget::new(limits), RIGHTS()) {
        Ok(()) => tree.show(),
        Err(error) => format!("! {error}"),
    };
    assert_eq!(shown, expected, "{top}");
    tree
}

#[test]
fn implied_directories_take_after_those_below() {
    let tree = check_settled(&["d usr; d usr/lib; f usr/lib/old x"], "f usr/lib/new y", "usr/ usr/lib/ usr/lib/new=y");
    let meta = fs::metadata(tree.path().join("usr/lib")).expect("there");
    assert_eq!((meta.permissions().mode() & 0o7777, meta.mtime()), (0o750, 1_000));
    // An archive that speaks of `lib/x` means the place where the lower layer's link leads.
    check_settled(&["d usr; d usr/lib; l lib usr/lib"], "f lib/new y", "usr/ usr/lib/ usr/lib/new=y");
    check_settled(
        &["d usr; d usr/lib; l lib /usr/lib"],
        "f lib/a y; f usr/lib/b z",
        "usr/ usr/lib/ usr/lib/a=y usr/lib/b=z",
    );
    check_settled(&["l lib usr/lib", "f .wh.lib"], "f lib/new y", "lib/ lib/new=y");
    check_settled(&["l lib ../../../outside"], "f lib/new y", "outside/ outside/new=y");
}

#[test]
fn hard_links_find_files_of_lower_layers() {
    let tree =
        check_settled(&["d a; f a/file text"], "h link a/file; h link2 a/file", "a/ a/file=text link2=text link=text");
    let meta = |name: &str| fs::metadata(tree.path().join(name)).expect(name);
    assert_eq!(meta("link").ino(), meta("a/file").ino());
    assert_eq!(meta("link").permissions().mode() & 0o7777, 0o640);
    check_settled(&["f a x"], "h link b", "! entry `link`: hard link to `b`, which is not in the image");
    check_settled(&["f a x", "f .wh.a"], "h link a", "! entry `link`: hard link to `a`, which is not in the image");
    check_settled(&["d a"], "h link a", "! entry `link`: hard link to `a`, which is not in the image");
    check_settled(&["l out /outside"], "h link out", "link->/outside out->/outside");
}

/// Entries of few names, so that they meet: links, whiteouts and ways up among them.
fn entries() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let name = prop::sample::select(vec!["a", "b", "..", ".wh.a", ".wh.b", ".wh..wh..opq", "outside", ".", ".wh.."]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let kind = prop::sample::select(vec!["d", "f", "f", "l", "h", "p"]);
    let target =
        (prop::sample::select(vec!["", "/", "../"]), path.clone()).prop_map(|(lead, path)| format!("{lead}{path}"));
    let line = (kind, path, target).prop_map(|(kind, path, target)| format!("{kind} {path} {target}"));
    prop::collection::vec(line, 1..10).prop_map(|lines| lines.join("; "))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Whatever they say: nothing beside the layers is made or changed, and what is made can be removed.
    #[test]
    fn no_entries_lead_out(lower in entries(), upper in entries()) {
        let (below, above) = (Tree::new(), Tree::new());
        let lower = below.unpack(&archive(&lower), Limits::default());
        if let (Ok(_), Ok(mut unpacked)) = (lower, above.unpack(&archive(&upper), Limits::default())) {
            let _settled = settle(&above.path(), &mut unpacked, &[&below.path()], &Budget::new(Limits::default()), RIGHTS());
        }
        for tree in [below, above] {
            let outside = fs::read_to_string(tree.base.path().join("outside")).expect("there");
            proptest::prop_assert_eq!(outside, "untouched");
            proptest::prop_assert_eq!(fs::read_dir(tree.base.path()).expect("readable").count(), 2);
            tree.base.close().expect("removed");
        }
    }
}

#[test]
fn paths_that_are_no_text_are_kept_as_they_are() {
    let mut bytes = archive("f xx text");
    bytes[0] = 0xff;
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&bytes[..512]);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    let tree = Tree::new();
    tree.unpack(&bytes, Limits::default()).expect("unpacked");
    let entry = fs::read_dir(tree.path()).expect("readable").next().expect("one").expect("readable");
    assert_eq!(entry.file_name().as_bytes(), b"\xffx");
}
