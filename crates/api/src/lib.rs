//! The Kubernetes HTTP surface over store and schema.
