//! The kinds every server has.

use std::sync::Arc;

use sluice_schema::{Arena, Kind, Shape, Subresource};

// Seam: the generated catalogue of the schema crate replaces this table.
const TABLE: &str = "
- v1 Namespace namespaces - status,finalize
- v1 Pod pods n status,log,binding,eviction,exec,attach,portforward,ephemeralcontainers,resize
- v1 Service services n status
- v1 Endpoints endpoints n
- v1 ConfigMap configmaps n
- v1 Secret secrets n
- v1 ServiceAccount serviceaccounts n token
- v1 Event events n
- v1 Node nodes - status
- v1 PersistentVolume persistentvolumes - status
- v1 PersistentVolumeClaim persistentvolumeclaims n status
- v1 PodTemplate podtemplates n
- v1 ReplicationController replicationcontrollers n status,scale
- v1 ResourceQuota resourcequotas n status
- v1 LimitRange limitranges n
apps v1 Deployment deployments n status,scale
apps v1 ReplicaSet replicasets n status,scale
apps v1 StatefulSet statefulsets n status,scale
apps v1 DaemonSet daemonsets n status
apps v1 ControllerRevision controllerrevisions n
events.k8s.io v1 Event events n
authentication.k8s.io v1 SelfSubjectReview selfsubjectreviews -
authentication.k8s.io v1 TokenReview tokenreviews -
authorization.k8s.io v1 SelfSubjectAccessReview selfsubjectaccessreviews -
authorization.k8s.io v1 SubjectAccessReview subjectaccessreviews -
batch v1 Job jobs n status
batch v1 CronJob cronjobs n status
coordination.k8s.io v1 Lease leases n
discovery.k8s.io v1 EndpointSlice endpointslices n
networking.k8s.io v1 Ingress ingresses n status
policy v1 PodDisruptionBudget poddisruptionbudgets n status
rbac.authorization.k8s.io v1 Role roles n
rbac.authorization.k8s.io v1 RoleBinding rolebindings n
rbac.authorization.k8s.io v1 ClusterRole clusterroles -
rbac.authorization.k8s.io v1 ClusterRoleBinding clusterrolebindings -
scheduling.k8s.io v1 PriorityClass priorityclasses -
storage.k8s.io v1 StorageClass storageclasses -
apiextensions.k8s.io v1 CustomResourceDefinition customresourcedefinitions - status";

/// The built-in kinds in the order of discovery.
pub(crate) fn kinds() -> Vec<Arc<Kind>> {
    let mut arena = Arena::default();
    let root = arena.add(Shape::Any);
    let arena = Arc::new(arena);
    let text = |s: &str| s.to_owned();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (group, version, kind, plural, scope, subs) = (word(), word(), word(), word(), word(), word());
        let review = kind.ends_with("Review");
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        Arc::new(Kind {
            group: text(group.trim_start_matches('-')),
            version: text(version),
            kind: text(kind),
            list_kind: format!("{kind}List"),
            plural: text(plural),
            singular: kind.to_lowercase(),
            short_names: vec![],
            categories: vec![],
            namespaced: scope == "n",
            verbs: verbs.iter().filter(|v| !review || **v == "create").map(|v| text(v)).collect(),
            subresources: subs
                .split(',')
                .filter(|s| !s.is_empty())
                .map(|s| Subresource {
                    name: text(s),
                    group: String::new(),
                    version: String::new(),
                    kind: text(kind),
                    verbs: ["get", "patch", "update", "create"].map(text).to_vec(),
                })
                .collect(),
            storage_version_hash: String::new(),
            storage_version: text(version),
            arena: Arc::clone(&arena),
            root,
            custom: None,
        })
    };
    TABLE.lines().filter(|l| !l.is_empty()).map(line).collect()
}
