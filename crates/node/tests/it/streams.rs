//! Talking to what runs: commands, terminals, attached containers.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use sluice_node::{Ended, StreamError, StreamWish, Streams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cluster::{Cluster, PATIENCE, alive, eventually};

pub(crate) fn trials() -> Vec<Trial> {
    crate::async_trials!("streams":
        a_command_has_its_own_streams_and_exit_code,
        much_goes_through_in_both_directions,
        a_command_on_a_terminal_knows_its_size,
        a_command_that_cannot_be_run_says_why,
        a_command_sees_that_its_client_is_gone,
        a_command_is_killed_with_its_container,
        several_readers_are_attached_to_one_container,
        a_container_with_stdin_once_ends_with_its_first_writer,
        a_container_on_a_terminal_can_be_typed_to,
        a_reader_that_takes_nothing_is_let_go,
    )
}

const SLEEP: &str = "echo up; exec sleep 1000";

fn wish(script: &str) -> StreamWish {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    StreamWish { command: Some(command), stdin: true, stdout: true, stderr: true, tty: false }
}

fn attach() -> StreamWish {
    StreamWish { stdin: true, stdout: true, stderr: true, ..StreamWish::default() }
}

async fn running(cluster: &Cluster, name: &str, script: &str, more: Value) -> String {
    cluster.run(name, script, more).await;
    let pod = cluster.until_ready(name).await;
    pod["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

async fn open(cluster: &Cluster, uid: &str, wish: StreamWish) -> Result<Streams, StreamError> {
    cluster.agent.as_ref().expect("an agent").streams().open(uid, "web", wish).await
}

async fn whole(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(PATIENCE, from.read_to_end(&mut text))
        .await
        .expect("it ends in time")
        .expect("it can be read");
    String::from_utf8(text).expect("text")
}

async fn read_until(from: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let read = tokio::time::timeout(PATIENCE, from.read(&mut buffer)).await;
        let length = read.unwrap_or_else(|_| panic!("no `{wanted}` in {text:?}")).expect("it can be read");
        assert_ne!(length, 0, "no `{wanted}` before the end of {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}

async fn ended(streams: Streams) -> Ended {
    tokio::time::timeout(PATIENCE, streams.ended).await.expect("it ends in time")
}

async fn a_command_has_its_own_streams_and_exit_code() {
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", SLEEP, json!({})).await;
    let mut streams = open(&cluster, &uid, wish("cat; echo $HOSTNAME; echo oops >&2; exit 7")).await.expect("streams");
    let mut stdin = streams.stdin.take().expect("stdin");
    stdin.write_all(b"given ").await.expect("it reads");
    drop(stdin);
    assert_eq!(whole(streams.stdout.as_mut().expect("stdout")).await, "given web\n");
    assert_eq!(whole(streams.stderr.as_mut().expect("stderr")).await, "oops\n");
    assert_eq!(ended(streams).await, Ended::Exited(7));

    let quiet = StreamWish { stdin: false, stderr: false, ..wish("cat; echo only; echo lost >&2") };
    let mut streams = open(&cluster, &uid, quiet).await.expect("streams");
    assert!(streams.stdin.is_none() && streams.stderr.is_none());
    assert_eq!(whole(streams.stdout.as_mut().expect("stdout")).await, "only\n");
    assert_eq!(ended(streams).await, Ended::Exited(0));
    cluster.end().await;
}

async fn much_goes_through_in_both_directions() {
    const BYTES: usize = 8 << 20;
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", SLEEP, json!({})).await;
    let mut streams = open(&cluster, &uid, wish("cat")).await.expect("streams");
    let mut stdin = streams.stdin.take().expect("stdin");
    let writer = tokio::spawn(async move { stdin.write_all(&vec![b'x'; BYTES]).await });
    assert_eq!(whole(streams.stdout.as_mut().expect("stdout")).await.len(), BYTES);
    writer.await.expect("it does not panic").expect("everything is taken");
    assert_eq!(ended(streams).await, Ended::Exited(0));
    cluster.end().await;
}

async fn a_command_on_a_terminal_knows_its_size() {
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", SLEEP, json!({})).await;
    let script = "read go; stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo $TERM; exit 3";
    let mut streams = open(&cluster, &uid, StreamWish { tty: true, ..wish(script) }).await.expect("streams");
    assert!(streams.stderr.is_none());
    streams.terminal.as_ref().expect("a terminal").set(101, 33);
    streams.stdin.as_mut().expect("stdin").write_all(b"go\n").await.expect("it reads");
    let said = whole(streams.stdout.as_mut().expect("stdout")).await;
    assert!(said.contains("33 101\r\nxterm\r\n"), "{said:?}");
    assert_eq!(ended(streams).await, Ended::Exited(3));
    cluster.end().await;
}

async fn a_command_that_cannot_be_run_says_why() {
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", SLEEP, json!({})).await;
    let none = StreamWish { command: Some(vec!["/no/such".to_owned()]), stdout: true, ..StreamWish::default() };
    let error = open(&cluster, &uid, none).await.expect_err("there is no such program");
    assert!(error.to_string().contains("cannot start `/no/such`: no such program"), "{error}");
    let error = open(&cluster, "another-uid", wish("true")).await.expect_err("there is no such pod");
    assert!(matches!(error, StreamError::NotRunning { .. }), "{error}");
    cluster.end().await;
}

async fn a_command_sees_that_its_client_is_gone() {
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", SLEEP, json!({})).await;
    for tty in [false, true] {
        let mut streams = open(&cluster, &uid, StreamWish { tty, ..wish("echo $$; cat") }).await.expect("streams");
        let said = read_until(streams.stdout.as_mut().expect("stdout"), "\n").await;
        let pid: i32 = said.trim().parse().expect("a process id");
        assert!(alive(pid));
        drop(streams);
        eventually("the command has ended", || !alive(pid)).await;
    }
    cluster.end().await;
}

async fn a_command_is_killed_with_its_container() {
    let cluster = Cluster::start().await;
    let uid = running(&cluster, "web", "echo $$$$ > pid; exec sleep 1000", json!({})).await;
    let streams = open(&cluster, &uid, wish("exec sleep 1000")).await.expect("streams");
    let stop = open(&cluster, &uid, wish("kill $(cat pid)")).await.expect("streams");
    assert_eq!(ended(streams).await, Ended::Exited(137));
    drop(stop);
    cluster.end().await;
}

async fn several_readers_are_attached_to_one_container() {
    let cluster = Cluster::start().await;
    let script = "echo $$$$ > pid; while ! [ -e go ]; do sleep 0.01; done; echo out; echo err >&2; exec sleep 1000";
    let uid = running(&cluster, "web", script, json!({})).await;
    let mut one = open(&cluster, &uid, attach()).await.expect("streams");
    let mut other = open(&cluster, &uid, attach()).await.expect("streams");
    assert!(one.stdin.is_none(), "the container has no stdin");
    let touch = open(&cluster, &uid, wish("touch go")).await.expect("streams");
    assert_eq!(ended(touch).await, Ended::Exited(0));
    for streams in [&mut one, &mut other] {
        read_until(streams.stdout.as_mut().expect("stdout"), "out\n").await;
        read_until(streams.stderr.as_mut().expect("stderr"), "err\n").await;
    }
    drop(one);
    let stop = open(&cluster, &uid, wish("kill $(cat pid)")).await.expect("streams");
    assert_eq!(whole(other.stdout.as_mut().expect("stdout")).await, "");
    assert!(matches!(ended(other).await, Ended::Exited(143)), "the run that was attached to is over");
    drop(stop);
    cluster.end().await;
}

async fn a_container_with_stdin_once_ends_with_its_first_writer() {
    let cluster = Cluster::start().await;
    let more = json!({"restartPolicy": "Never", "containers": [{"stdin": true, "stdinOnce": true}]});
    let uid = running(&cluster, "web", "cat; echo bye; exit 4", more).await;
    let mut streams = open(&cluster, &uid, attach()).await.expect("streams");
    let mut late = open(&cluster, &uid, attach()).await.expect("streams");
    assert!(late.stdin.is_none(), "there is one writer");
    let mut stdin = streams.stdin.take().expect("stdin");
    stdin.write_all(b"hello\n").await.expect("it reads");
    drop(stdin);
    assert_eq!(whole(streams.stdout.as_mut().expect("stdout")).await, "hello\nbye\n");
    assert_eq!(whole(late.stdout.as_mut().expect("stdout")).await, "hello\nbye\n");
    assert_eq!(ended(streams).await, Ended::Exited(4));
    cluster.until("web", "failed", |pod| pod["status"]["phase"] == "Failed").await;
    cluster.end().await;
}

async fn a_container_on_a_terminal_can_be_typed_to() {
    let cluster = Cluster::start().await;
    let more = json!({"restartPolicy": "Never", "containers": [{"stdin": true, "tty": true}]});
    let uid = running(&cluster, "web", "exec /bin/sh", more).await;
    for round in ["first", "second"] {
        let mut streams = open(&cluster, &uid, attach()).await.expect("streams");
        streams.terminal.as_ref().expect("a terminal").set(99, 11);
        let typed = format!("stty size; echo {round}-$((1+1))\n");
        streams.stdin.as_mut().expect("stdin").write_all(typed.as_bytes()).await.expect("it reads");
        let said = read_until(streams.stdout.as_mut().expect("stdout"), &format!("{round}-2")).await;
        assert!(said.contains("11 99"), "{said:?}");
    }
    let mut last = open(&cluster, &uid, attach()).await.expect("streams");
    last.stdin.as_mut().expect("stdin").write_all(b"exit 0\n").await.expect("it reads");
    whole(last.stdout.as_mut().expect("stdout")).await;
    cluster.until("web", "succeeded", |pod| pod["status"]["phase"] == "Succeeded").await;
    cluster.end().await;
}

async fn a_reader_that_takes_nothing_is_let_go() {
    let cluster = Cluster::start().await;
    let script = "while ! [ -e go ]; do sleep 0.01; done; head -c 400000 /dev/zero; touch written; exec sleep 1000";
    let uid = running(&cluster, "web", script, json!({})).await;
    let idle = open(&cluster, &uid, attach()).await.expect("streams");
    let touch = open(&cluster, &uid, wish("touch go")).await.expect("streams");
    assert_eq!(ended(touch).await, Ended::Exited(0));
    let wait = wish("while ! [ -e written ]; do sleep 0.01; done");
    let waiting = open(&cluster, &uid, wait).await.expect("streams");
    let freed = tokio::time::timeout(PATIENCE + Duration::from_secs(10), waiting.ended).await;
    assert_eq!(freed, Ok(Ended::Exited(0)), "the container writes on");
    drop(idle);
    cluster.end().await;
}
