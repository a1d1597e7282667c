//! The pods of a Job.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::super::owner;
use super::decide::Seat;
use super::tally::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, TRACKING};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// What is left of a name when the API adds its five letters.
const PREFIX_MAX: usize = 58;

pub(super) fn pod(job: &Job, seat: &Seat) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut meta = template.metadata.unwrap_or_default();
    let mut spec = template.spec.unwrap_or_default();
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let name = job.name_any();
    let mut prefix = format!("{name}-");
    if let Some(index) = seat.index {
        let labels = meta.labels.get_or_insert_default();
        labels.insert(INDEX.to_owned(), index.to_string());
        meta.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        spec.hostname = Some(format!("{name}-{index}"));
        tell_index(&mut spec);
        let suffix = format!("-{index}-");
        let room = name.len().min(PREFIX_MAX.saturating_sub(suffix.len()));
        prefix = format!("{}{suffix}", &name[..room]);
    }
    if let Some((counted, ignored)) = seat.failures {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(INDEX_FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(INDEX_IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: job.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::controlled_by(job)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Every container learns its index, unless it sets the variable itself.
fn tell_index(spec: &mut PodSpec) {
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for container in containers.filter(|container| !sets_index(container)) {
        let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
        container.env.get_or_insert_default().push(EnvVar {
            name: INDEX_VARIABLE.to_owned(),
            value: None,
            value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        });
    }
}

fn sets_index(container: &Container) -> bool {
    container.env.iter().flatten().any(|variable| variable.name == INDEX_VARIABLE)
}
