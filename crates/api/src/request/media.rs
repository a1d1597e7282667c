//! Content negotiation: which representation of an answer a caller takes.

use crate::refusal::Refusal;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
}

/// What an answer shows of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    #[default]
    Object,
    /// `as=Table`, in this version of `meta.k8s.io`.
    Table(&'static str),
    Partial(&'static str),
    PartialList(&'static str),
    /// `as=APIGroupDiscoveryList`.
    Discovery,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Accept {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
}

const KNOWN: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// Chooses the first clause we can serve; clauses with a higher `q` come first.
pub(crate) fn negotiate(header: &str, discovery: bool) -> Result<Accept, Refusal> {
    let header = header.trim();
    if header.is_empty() {
        return Ok(Accept::default());
    }
    routed(header)?;
    let mut clauses: Vec<(f64, &str)> = header.split(',').map(|clause| (quality(clause), clause)).collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses
        .into_iter()
        .find_map(|(_, clause)| accept(clause, discovery))
        .ok_or_else(|| Refusal::NotNegotiable(format!("only the following media types are accepted: {KNOWN}")))
}

/// The router's own check: it compares media types literally and knows no parameters.
fn routed(header: &str) -> Result<(), Refusal> {
    let known = |clause: &str| {
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "*/*" | "application/json" | "application/yaml" | "application/vnd.kubernetes.protobuf")
    };
    if header.split(',').any(known) { Ok(()) } else { Err(Refusal::NotAcceptable) }
}

fn quality(clause: &str) -> f64 {
    let q = clause.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
    // Zero does not exclude.
    q.and_then(|q| q.parse().ok()).unwrap_or(1.0)
}

fn accept(clause: &str, discovery: bool) -> Option<Accept> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "*/*" | "application/*" | "application/json" | "application/vnd.kubernetes.protobuf" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let (mut shape, mut group, mut version) = ("", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "as" => shape = value,
            "g" => group = value,
            "v" => version = value,
            "stream" if !value.is_empty() && value != "watch" => return None,
            _ => {}
        }
    }
    Some(Accept { encoding, shape: named_shape(shape, group, version, discovery)? })
}

fn named_shape(shape: &str, group: &str, version: &str, discovery: bool) -> Option<Shape> {
    if shape.is_empty() && group.is_empty() && version.is_empty() {
        return Some(Shape::Object);
    }
    if discovery {
        let known = (shape, group, version) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2");
        return known.then_some(Shape::Discovery);
    }
    let version = match (group, version) {
        ("meta.k8s.io", "v1") => "v1",
        ("meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    match shape {
        "Table" => Some(Shape::Table(version)),
        "PartialObjectMetadata" => Some(Shape::Partial(version)),
        "PartialObjectMetadataList" => Some(Shape::PartialList(version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: &Result<(Encoding, Shape), u16>) {
        let got = negotiate(header, false).map(|a| (a.encoding, a.shape)).map_err(|refusal| refusal.code());
        assert_eq!(&got, expected, "{header}");
    }

    #[test]
    fn clauses_are_tried_in_order_of_quality() {
        check("", &Ok((Encoding::Json, Shape::Object)));
        check("application/yaml", &Ok((Encoding::Yaml, Shape::Object)));
        check("application/json;q=0.5,*/*;q=0.1", &Ok((Encoding::Json, Shape::Object)));
        check("application/yaml;q=0.2, application/json", &Ok((Encoding::Json, Shape::Object)));
        check("application/json;q=0", &Ok((Encoding::Json, Shape::Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io", &Ok((Encoding::Json, Shape::Table("v1"))));
        check("application/json;as=Table;v=v7;g=meta.k8s.io,application/json", &Ok((Encoding::Json, Shape::Object)));
    }

    #[test]
    fn what_nobody_can_serve_is_refused() {
        for header in ["application/*", "APPLICATION/JSON", "text/plain", "application/json;v=v2", "garbage"] {
            check(header, &Err(406));
        }
    }
}
