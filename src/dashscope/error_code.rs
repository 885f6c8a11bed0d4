//! Error codes as labels: a closed set of those that DashScope documents (protocol 3.11).

use super::secret_look::looks_like_secret;

/// The documented code for a code of an answer, which may be written in snake case, as compatible paths do. A code that
/// only begins like a documented one counts as that: `InternalError.Algo.Timeout` as `InternalError.Algo`. Any other code
/// is `other`.
pub fn label(code: &str) -> &'static str {
    if let Some((_, documented)) = ALIASES.iter().find(|(alias, _)| *alias == code) {
        return documented;
    }
    let mut beginning = code;
    loop {
        if let Some(documented) = CODES.iter().find(|documented| **documented == beginning) {
            return documented;
        }
        let Some((shorter, _)) = beginning.rsplit_once('.') else { return OTHER };
        beginning = shorter;
    }
}

/// The code if it can be shown: it looks like a code, such as `FILE_403_FORBIDDEN`, and not like a secret.
pub fn shown(code: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_code = (1..=64).contains(&code.len()) && code.bytes().all(is_plain);
    Some(code).filter(|_| is_code && !looks_like_secret(code))
}

/// The label of a code that DashScope does not document.
pub const OTHER: &str = "other";

const CODES: [&str; 71] = [
    "AccessDenied",
    "AccessDenied.Unpurchased",
    "AllocationQuota.FreeTierOnly",
    "App.AccessDenied",
    "AppProcessFailed",
    "Arrearage",
    "Audio",
    "BadRequest",
    "BadRequest.EmptyInput",
    "BadRequest.EmptyModel",
    "BadRequest.EmptyParameters",
    "BadRequest.IllegalInput",
    "BadRequest.InputDownloadFailed",
    "BadRequest.ResourceNotExist",
    "BadRequest.TooLarge",
    "ClientDisconnect",
    "CommodityNotPurchased",
    "Conflict",
    "CustomRoleBlocked",
    "DataInspectionFailed",
    "Endpoint.AccessDenied",
    "FILE_403_FORBIDDEN",
    "FaqRuleBlocked",
    "IPInfringementSuspect",
    "InternalError",
    "InternalError.Algo",
    "InternalError.FileUpload",
    "InternalError.Timeout",
    "InternalError.Upload",
    "InvalidApiKey",
    "InvalidFile",
    "InvalidFile.DownloadFailed",
    "InvalidFile.Duration",
    "InvalidFile.Format",
    "InvalidFile.Resolution",
    "InvalidFile.Size",
    "InvalidImage",
    "InvalidImage.FileFormat",
    "InvalidImage.FullFace",
    "InvalidImage.ImageSize",
    "InvalidImage.NoHumanFace",
    "InvalidImageFormat",
    "InvalidImageResolution",
    "InvalidParameter",
    "InvalidParameter.DataInspection",
    "InvalidURL",
    "InvalidURL.ConnectionRefused",
    "InvalidURL.Timeout",
    "InvokePluginFailed",
    "Model.AccessDenied",
    "ModelNotFound",
    "ModelServiceFailed",
    "ModelUnavailable",
    "NotFound",
    "PostpaidBillOverdue",
    "PrepaidBillOverdue",
    "RequestTimeOut",
    "ResponseTimeout",
    "RetrivalFailed",
    "RewriteFailed",
    "ServiceUnavailable",
    "SystemError",
    "Throttling",
    "Throttling.AllocationQuota",
    "Throttling.BurstRate",
    "Throttling.Concurrency",
    "Throttling.RateQuota",
    "UnsupportedOperation",
    "WorkSpaceNotFound",
    "Workspace.AccessDenied",
    OTHER,
];

/// Codes of compatible paths, and the native codes of the same errors.
const ALIASES: [(&str, &str); 12] = [
    ("access_denied", "AccessDenied"),
    ("arrearage", "Arrearage"),
    ("data_inspection_failed", "DataInspectionFailed"),
    ("insufficient_quota", "Throttling.AllocationQuota"),
    ("internal_error", "InternalError"),
    ("invalid_api_key", "InvalidApiKey"),
    ("invalid_parameter_error", "InvalidParameter"),
    ("limit_burst_rate", "Throttling.BurstRate"),
    ("limit_concurrency", "Throttling.Concurrency"),
    ("limit_requests", "Throttling.RateQuota"),
    ("model_not_found", "ModelNotFound"),
    ("model_not_supported", "ModelNotFound"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_documented_code_or_other() {
        for (code, expected) in [
            ("InternalError.Algo", "InternalError.Algo"),
            ("InternalError.Algo.InvalidParameter", "InternalError.Algo"),
            ("InvalidFile.Unheard", "InvalidFile"),
            ("limit_requests", "Throttling.RateQuota"),
            ("DataInspectionFailed", "DataInspectionFailed"),
            ("internalerror", OTHER),
            ("InternalErrors", OTHER),
            ("", OTHER),
            (".", OTHER),
            ("a.b.c", OTHER),
        ] {
            assert_eq!(label(code), expected, "{code}");
        }
        for (_, documented) in ALIASES {
            assert!(CODES.contains(&documented), "{documented}");
        }
    }

    #[test]
    fn a_secret_or_a_page_is_not_shown_as_a_code() {
        assert_eq!(shown("FILE_403_FORBIDDEN"), Some("FILE_403_FORBIDDEN"));
        for text in ["", "sk-0123456789abcdef0123456789abcdef", "<html>", "a cat\n", &"a".repeat(65)] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
