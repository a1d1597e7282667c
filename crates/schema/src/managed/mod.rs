//! Who owns which field: server-side apply and `metadata.managedFields`.
//!
//! For each kind of write there is one function, to be called by the API with the object as it was decoded and defaulted:
//!
//! | write | call | then |
//! | --- | --- | --- |
//! | create (POST, or a PUT that creates) | [`update`] with no live object | admission, `prepare::create`, validation |
//! | PUT, JSON/merge/strategic patch, also of `/status` | [`update`] with the live object | [`settle`], `prepare::update`, validation |
//! | apply, also of `/status`, of a missing object too | [`apply`] | typed decoding, defaults, [`settle`], as above |
//! | PUT or patch of `/scale` | [`update_scale`] | the parent is written like a PUT, without calling [`update`] |
//! | apply to `/scale` | [`apply_scale`] | the same |
//!
//! [`apply`] returns the merged object before defaults, so the caller decodes and defaults it as it does a POST body.
//! A write after which the object equals the live one in everything is no write: [`settle`] makes this comparable.

use serde_json::Value;

use crate::kinds::Kind;

/// Who writes, what, and when.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The kind in the version of the request.
    pub kind: &'a Kind,
    /// `fieldManager`, or the name made from the user agent by [`manager_from_user_agent`].
    pub manager: &'a str,
    /// `status`, `scale`, ...; nothing for the object itself.
    pub subresource: Option<&'a str>,
    pub now: jiff::Timestamp,
    /// How objects look in the other versions of this resource.
    pub versions: &'a dyn Versions,
}

/// Objects in other versions of their resource: an entry of another version is judged on the object in that version.
pub trait Versions {
    /// The kind in another version, and the object as it looks there. `None`: no such version.
    fn convert(&self, object: &Value, api_version: &str) -> Option<(&Kind, Value)>;
}

/// A resource that is served in one version.
pub struct OnlyVersion;

impl Versions for OnlyVersion {
    fn convert(&self, _: &Value, _: &str) -> Option<(&Kind, Value)> {
        None
    }
}
