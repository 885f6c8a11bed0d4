//! Upload policies, and the objects uploaded under them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::SimulatedCaller;
use super::errors::{ErrorAnswer, ErrorCause};
use super::form::PostedForm;
use super::oss_error::OssError;
use super::signature::{ACCESS_KEY_ID, SigningSecret};

/// A file on the stand-in for OSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedUpload {
    /// The object's key. A request names the object as `oss://` and this key.
    pub key: String,
    pub account: String,
    pub model: String,
    pub length: u64,
    pub at: SystemTime,
}

#[derive(Default)]
pub(super) struct SimulatedUploads {
    /// The account and the model that an upload directory was issued to.
    issued: HashMap<String, (String, String)>,
    objects: HashMap<String, SimulatedUpload>,
}

impl SimulatedUploads {
    /// The `data` of a getPolicy answer.
    pub(super) fn policy(
        &mut self,
        caller: &SimulatedCaller,
        model: &str,
        secret: &SigningSecret,
        host: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Value {
        let date = humantime::format_rfc3339_seconds(now).to_string();
        let hash = &secret.sign(&caller.account).replace('/', "_")[..32];
        let directory = format!("dashscope-instant/{hash}/{}/{}", &date[..10], Uuid::new_v4());
        let policy = json!({
            "expiration": humantime::format_rfc3339_millis(now + lifetime).to_string(),
            "conditions": [
                ["content-length-range", 0, LARGEST_FILE_BYTES],
                ["starts-with", "$key", directory],
                {"x-oss-object-acl": "private"},
                {"x-oss-forbid-overwrite": "true"},
            ],
        });
        let policy = STANDARD.encode(policy.to_string());
        let signature = secret.sign(&policy);
        self.issued.insert(directory.clone(), (caller.account.clone(), model.to_owned()));
        json!({
            "policy": policy,
            "signature": signature,
            "upload_dir": directory,
            "upload_host": host,
            "expire_in_seconds": lifetime.as_secs(),
            "max_file_size_mb": LARGEST_FILE_BYTES >> 20,
            "capacity_limit_mb": 999_999_999,
            "oss_access_key_id": ACCESS_KEY_ID,
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        })
    }

    /// Checks a form as OSS does, then keeps the object.
    pub(super) fn store(
        &mut self,
        form: &PostedForm,
        secret: &SigningSecret,
        now: SystemTime,
    ) -> Result<SimulatedUpload, OssError> {
        let file = form.file.as_ref().ok_or(OssError::MalformedForm("the file field is missing"))?;
        if !file.last {
            return Err(OssError::MalformedForm("the file must be the last field"));
        }
        let key = form.field("key").ok_or(OssError::MalformedForm("the key field is missing"))?;
        check_signature(form, secret)?;
        let directory = check_policy(form, key, file.length, now)?;
        let (account, model) = self.issued.get(&directory).cloned().ok_or(OssError::Policy("$key"))?;
        if self.objects.contains_key(key) {
            return Err(OssError::Exists);
        }
        let upload = SimulatedUpload { key: key.to_owned(), account, model, length: file.length, at: now };
        self.objects.insert(key.to_owned(), upload.clone());
        Ok(upload)
    }

    /// Checks that a request may read its `oss://` inputs: each must belong to the account and the model of the
    /// request.
    pub(super) fn resolve(
        &self,
        urls: &[&str],
        caller: &SimulatedCaller,
        model: &str,
        now: SystemTime,
    ) -> Result<(), ErrorAnswer> {
        for url in urls {
            let key = url.strip_prefix("oss://").unwrap_or(url);
            let readable = self.objects.get(key).is_some_and(|object| {
                object.account == caller.account && object.model == model && now < object.at + OBJECT_LIFETIME
            });
            if !readable {
                return Err(ErrorAnswer::new(
                    ErrorCause::DownloadFailed,
                    format!("Failed to download {url}."),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<SimulatedUpload> {
        let mut all: Vec<SimulatedUpload> = self.objects.values().cloned().collect();
        all.sort_by_key(|upload| upload.at);
        all
    }
}

fn check_signature(form: &PostedForm, secret: &SigningSecret) -> Result<(), OssError> {
    let field = |name| form.field(name).ok_or(OssError::MissingCredentials);
    let (policy, signature, id) = (field("policy")?, field("Signature")?, field("OSSAccessKeyId")?);
    if id != ACCESS_KEY_ID {
        return Err(OssError::AccessKeyId);
    }
    if secret.sign(policy) != signature {
        return Err(OssError::Signature);
    }
    Ok(())
}

/// Checks the policy of a form, and returns the directory that the policy was issued for.
fn check_policy(form: &PostedForm, key: &str, length: u64, now: SystemTime) -> Result<String, OssError> {
    let policy = form.field("policy").unwrap_or_default();
    let decoded = STANDARD.decode(policy).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let policy = decoded.ok_or(OssError::MalformedForm("the policy is not JSON in Base64"))?;
    let expiration = policy["expiration"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
    if expiration.is_none_or(|end| end <= now) {
        return Err(OssError::PolicyExpired);
    }
    let directory = policy["conditions"][1][2].as_str().unwrap_or_default();
    let name = key.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
    if name.is_none_or(|name| name.is_empty() || name.contains('/')) {
        return Err(OssError::Policy("$key"));
    }
    for (field, wanted) in [("x-oss-object-acl", "private"), ("x-oss-forbid-overwrite", "true")] {
        if form.field(field) != Some(wanted) {
            return Err(OssError::Policy(field));
        }
    }
    if length > LARGEST_FILE_BYTES {
        return Err(OssError::TooLarge);
    }
    Ok(directory.to_owned())
}

const LARGEST_FILE_BYTES: u64 = 100 << 20;
const OBJECT_LIFETIME: Duration = Duration::from_secs(48 * 3600);

#[cfg(test)]
mod tests {
    use super::super::form::PostedFile;
    use super::super::tasks::tests::at;
    use super::*;

    fn caller(account: &str) -> SimulatedCaller {
        SimulatedCaller { account: account.into(), key: "sk-1".into() }
    }

    fn form(policy: &Value, name: &str) -> PostedForm {
        let text = |field: &str| policy[field].as_str().unwrap().to_owned();
        let fields = [
            ("OSSAccessKeyId", text("oss_access_key_id")),
            ("Signature", text("signature")),
            ("policy", text("policy")),
            ("key", format!("{}/{name}", text("upload_dir"))),
            ("x-oss-object-acl", text("x_oss_object_acl")),
            ("x-oss-forbid-overwrite", text("x_oss_forbid_overwrite")),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        PostedForm { fields, file: Some(PostedFile { length: 3, last: true }) }
    }

    #[test]
    fn an_object_is_bound_to_its_account_and_model() {
        let secret = SigningSecret::random();
        let mut uploads = SimulatedUploads::default();
        let minutes = Duration::from_secs(300);
        let policy = uploads.policy(&caller("a"), "m", &secret, "http://oss", minutes, at(0.0));
        let stored = uploads.store(&form(&policy, "x.png"), &secret, at(1.0)).unwrap();
        let url = format!("oss://{}", stored.key);
        let resolve = |account: &str, model: &str, seconds| {
            uploads.resolve(&[&url], &caller(account), model, at(seconds)).is_ok()
        };
        assert!(resolve("a", "m", 2.0));
        assert!(!resolve("b", "m", 2.0));
        assert!(!resolve("a", "n", 2.0));
        assert!(!resolve("a", "m", 200_000.0));
    }

    #[test]
    fn a_form_must_keep_to_its_policy() {
        let secret = SigningSecret::random();
        let mut uploads = SimulatedUploads::default();
        let policy =
            uploads.policy(&caller("a"), "m", &secret, "http://oss", Duration::from_secs(300), at(0.0));
        let mut store = |change: &dyn Fn(&mut PostedForm), seconds| {
            let mut form = form(&policy, "x.png");
            change(&mut form);
            uploads.store(&form, &secret, at(seconds)).err()
        };
        assert_eq!(store(&|_| {}, 300.0), Some(OssError::PolicyExpired));
        assert_eq!(store(&|form| form.fields[1].1.push('x'), 1.0), Some(OssError::Signature));
        assert_eq!(store(&|form| form.fields[0].1.push('x'), 1.0), Some(OssError::AccessKeyId));
        assert_eq!(
            store(&|form| form.fields[3].1 = "elsewhere/x".into(), 1.0),
            Some(OssError::Policy("$key"))
        );
        assert_eq!(
            store(&|form| drop(form.fields.remove(4)), 1.0),
            Some(OssError::Policy("x-oss-object-acl"))
        );
        let before_key = |form: &mut PostedForm| form.file = Some(PostedFile { length: 3, last: false });
        assert_eq!(store(&before_key, 1.0), Some(OssError::MalformedForm("the file must be the last field")));
        assert_eq!(store(&|_| {}, 1.0), None);
        assert_eq!(store(&|_| {}, 1.0), Some(OssError::Exists));
    }
}
