//! The images in the data directory, worked on without an engine.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sluice_image::{Digest, Hosts, Image, Keyring, Platform, Progress, Pull, Record, Registry, Store, StoreError};

use crate::connect::{Failed, default_data_dir};
use crate::exit::Exit;
use crate::flags::{ImageComing, ImageInspect, ImageLoad, ImagePull, ImageRm, ImageStore};
use crate::printer;

/// How often a line of progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

pub(super) fn open(flags: &ImageStore) -> anyhow::Result<Store> {
    let data = match &flags.data {
        Some(data) => data.clone(),
        None => default_data_dir()?,
    };
    Ok(Store::open(std::path::absolute(data)?.join("images"))?)
}

pub(super) async fn pull(flags: ImagePull) -> anyhow::Result<Exit> {
    let ImageComing { platform, output, store } = flags.coming;
    let store = open(&store)?;
    let path = store.root().join("registries.json");
    let hosts = Hosts::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let credentials = Keyring::of_user().context("cannot read Docker's configuration")?.credentials(&flags.name).await;
    let drawing = Arc::new(Drawing::new(std::io::stderr().is_terminal() && output.is_none()));
    let pull = Pull {
        platform: platform.unwrap_or_else(Platform::host),
        credentials,
        progress: Arc::new({
            let drawing = drawing.clone();
            move |progress| drawing.take(progress)
        }),
        ..Pull::new(flags.name.clone())
    };
    let started = Instant::now();
    let registry = Registry::new(hosts);
    let result = tokio::select! {
        result = pull.run(&store, &registry) => result,
        _ = tokio::signal::ctrl_c() => {
            drawing.clear();
            return Err(Failed { exit: Exit::Failure, message: "interrupted".to_owned(), hint: None }.into());
        }
    };
    drawing.clear();
    let image = result.with_context(|| format!("cannot pull `{}`", flags.name))?;
    if output.is_some() {
        printer::json(&to_json(&image.record));
        return Ok(Exit::Ok);
    }
    let took = started.elapsed().as_secs_f64();
    printer::line(&format!(
        "image `{}` {} in {took:.1}s: {}, {} unpacked",
        flags.name.familiar(),
        drawing.verb(),
        bytes(image.record.size),
        bytes(image.record.unpacked),
    ));
    Ok(Exit::Ok)
}

pub(super) fn load(flags: &ImageLoad) -> anyhow::Result<Exit> {
    let ImageComing { platform, output, store } = &flags.coming;
    let platform = platform.clone().unwrap_or_else(Platform::host);
    let images = open(store)?
        .load(&flags.file, &platform, flags.name.as_ref())
        .with_context(|| format!("cannot load `{}`", flags.file.display()))?;
    if output.is_some() {
        printer::json(&json!(images.iter().map(|image| to_json(&image.record)).collect::<Vec<_>>()));
        return Ok(Exit::Ok);
    }
    for image in images {
        let names: Vec<&str> = image.record.names.iter().map(String::as_str).collect();
        let name = if names.is_empty() { image.id().short().to_owned() } else { names.join("`, `") };
        printer::line(&format!("image `{name}` loaded: {} unpacked", bytes(image.record.unpacked)));
    }
    Ok(Exit::Ok)
}

pub(super) fn inspect(flags: &ImageInspect) -> anyhow::Result<Exit> {
    let image = open(&flags.store)?.find(&flags.name)?;
    let Some(Image { record, config, layers }) = image else {
        let hint = Some(format!("pull it with `sluice image pull {}`", flags.name));
        return Err(Failed { exit: Exit::Failure, message: format!("no image `{}`", flags.name), hint }.into());
    };
    let mut value = to_json(&record);
    value["config"] = serde_json::to_value(config)?;
    value["layers"] = json!(layers);
    printer::line(&serde_json::to_string_pretty(&value)?);
    Ok(Exit::Ok)
}

/// Whether there was such an image.
pub(super) fn rm(flags: &ImageRm) -> anyhow::Result<bool> {
    let store = open(&flags.store)?;
    match store.remove(&flags.name, flags.force) {
        Ok((record, true)) => {
            printer::line(&format!("image `{}` removed: {} freed at most", flags.name, bytes(record.unpacked)));
        }
        Ok((_, false)) => printer::line(&format!("name `{}` removed", flags.name)),
        Err(StoreError::Unknown(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

pub(super) fn to_json(record: &Record) -> Value {
    json!({
        "id": record.id, "image": record.names.first(), "names": record.names, "digests": record.digests,
        "size": record.size, "unpacked": record.unpacked, "pulled": record.pulled.to_string(),
    })
}

/// A row for each name; one for an image that lost its last.
pub(super) fn rows(record: &Record) -> Vec<Vec<String>> {
    let names: Vec<String> = match record.names.is_empty() {
        true => vec![record.digests.first().cloned().unwrap_or_else(|| "<none>".to_owned())],
        false => record.names.iter().cloned().collect(),
    };
    let pulled = record.pulled.strftime("%Y-%m-%d %H:%M").to_string();
    let row = |name| {
        vec![name, record.id.short().to_owned(), bytes(record.size), pulled.clone(), String::new(), String::new()]
    };
    names.into_iter().map(row).collect()
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut scaled = n as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && scaled < 99.95);
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// One line on the terminal that says how far a pull is.
struct Drawing {
    draws: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Size, bytes that came, whether it is unpacked.
    layers: BTreeMap<Digest, (u64, u64, bool)>,
    here: usize,
    drawn: Option<Instant>,
}

impl Drawing {
    fn new(draws: bool) -> Self {
        Self { draws, state: Mutex::default() }
    }

    fn take(&self, progress: Progress) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match progress {
            Progress::Exists { .. } => state.here += 1,
            Progress::Layer { digest, size } => drop(state.layers.insert(digest, (size, 0, false))),
            Progress::Bytes { digest, bytes } => {
                if let Some(layer) = state.layers.get_mut(&digest) {
                    layer.1 += bytes;
                }
            }
            Progress::Done { digest } => {
                if let Some(layer) = state.layers.get_mut(&digest) {
                    layer.2 = true;
                }
            }
        }
        if self.draws && state.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY) {
            state.drawn = Some(Instant::now());
            self.write(&format!("\r\x1b[K{}", state.line()));
        }
    }

    fn verb(&self) -> &'static str {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.layers.is_empty() { "is up to date" } else { "pulled" }
    }

    fn clear(&self) {
        if self.draws {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        // A terminal that went away misses nothing.
        let _gone = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

impl State {
    fn line(&self) -> String {
        let done = self.here + self.layers.values().filter(|layer| layer.2).count();
        let (size, came) = self.layers.values().fold((0, 0), |(size, came), layer| (size + layer.0, came + layer.1));
        format!("layers {done}/{}, {} of {}", self.here + self.layers.len(), bytes(came), bytes(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        let shown = [0, 999, 1_000, 12_345, 99_960, 999_499, 999_500, 1_234_567_890].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "12.3 kB", "100 kB", "999 kB", "1.0 MB", "1.2 GB"]);
    }

    #[test]
    fn the_line_counts_layers_and_bytes() {
        let drawing = Drawing::new(false);
        let digest = Digest::of(b"x");
        drawing.take(Progress::Exists { digest: Digest::of(b"y") });
        drawing.take(Progress::Layer { digest: digest.clone(), size: 2_000_000 });
        drawing.take(Progress::Bytes { digest: digest.clone(), bytes: 500_000 });
        let line = || drawing.state.lock().expect("whole").line();
        assert_eq!(line(), "layers 1/2, 500 kB of 2.0 MB");
        drawing.take(Progress::Done { digest });
        assert_eq!(line(), "layers 2/2, 500 kB of 2.0 MB");
    }
}
