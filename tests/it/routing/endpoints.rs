//! Table of all endpoints of DashScope that the protocol page names in its chapters 1.1 to 1.6, and the result of
//! a call to it. The list of models, which the gateway keeps, has tests of its own in `models.rs`.

use crate::harness::Envelope;

/// The gateway's treatment of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// The upstream gets the call.
    Passes,
    /// Passes, and runs as a task only: it takes `X-DashScope-Async: enable`.
    Submits,
    /// Passes as a WebSocket handshake.
    Shakes,
    /// Answered here, with this status; the upstream sees nothing.
    Local(u16),
    /// Refused here with this status and reason; the upstream sees nothing.
    Refused(u16, &'static str),
    /// 403; the upstream sees nothing.
    Denied,
}

use Treatment::{Denied, Local, Passes, Refused, Shakes, Submits};

pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    /// The path on DashScope's own host. `{own}` is a task of the caller, `{foreign}` another tenant's, `{none}`
    /// nobody's.
    pub(crate) path: &'static str,
    pub(crate) query: &'static str,
    pub(crate) fate: Treatment,
}

impl Endpoint {
    pub(crate) fn is_native(&self) -> bool {
        self.path.starts_with("/api/v1")
    }

    /// True when letter case in the last segment does not change the call.
    pub(crate) fn is_service(&self) -> bool {
        self.path.starts_with("/api/v1/services/")
    }

    pub(crate) fn envelope(&self) -> Envelope {
        match self.path.split('/').nth(1) {
            Some("compatible-mode" | "compatible-api") => Envelope::OpenAi,
            Some("apps") => Envelope::Anthropic,
            _ => Envelope::Flat,
        }
    }
}

/// All endpoints of the table, one for each method.
pub(crate) fn all() -> Vec<Endpoint> {
    TABLE
        .iter()
        .flat_map(|(methods, paths, fate)| {
            methods.split(' ').flat_map(move |method| {
                paths.iter().map(move |path| {
                    let (path, query) = path.split_once('?').unwrap_or((path, ""));
                    Endpoint { method, path, query, fate: *fate }
                })
            })
        })
        .collect()
}

type Rows = (&'static str, &'static [&'static str], Treatment);

const TABLE: [Rows; 35] = [
    // 1.1 services
    (
        "POST",
        &[
            "/api/v1/services/aigc/video-generation/video-synthesis",
            "/api/v1/services/aigc/image2video/video-synthesis",
            "/api/v1/services/audio/asr/transcription",
        ],
        Submits,
    ),
    (
        "POST",
        &[
            "/api/v1/services/aigc/image2video/face-detect",
            "/api/v1/services/aigc/image2video/emo-detect",
            "/api/v1/services/aigc/text2image/image-synthesis",
            "/api/v1/services/aigc/image2image/image-synthesis",
            "/api/v1/services/aigc/image2image/out-painting",
            "/api/v1/services/aigc/image-generation/generation",
            "/api/v1/services/aigc/multimodal-generation/generation",
            "/api/v1/services/aigc/text-generation/generation",
            "/api/v1/services/aigc/video-generation/3d-generation",
            "/api/v1/services/aigc/virtualmodel/generation",
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding",
            "/api/v1/services/rerank/text-rerank/text-rerank",
            "/api/v1/services/audio/tts/SpeechSynthesizer",
            "/api/v1/services/nlp/nlu/understanding",
            "/api/v1/services/aigc/code-generation/generation",
            "/api/v1/tokenizer",
        ],
        Passes,
    ),
    (
        "POST",
        &["/api/v1/services/audio/asr/customization", "/api/v1/services/audio/tts/customization"],
        Denied,
    ),
    ("POST", &["/api/v1"], Denied),
    // 1.2 tasks
    ("GET", &["/api/v1/tasks/{own}"], Passes),
    ("GET", &["/api/v1/tasks/{foreign}", "/api/v1/tasks/{none}"], Local(200)),
    (
        "GET",
        &["/api/v1/tasks", "/api/v1/tasks?task_id={foreign}&page_no=1&api_key_id=1&region=x"],
        Local(200),
    ),
    ("POST", &["/api/v1/tasks/{own}/cancel"], Passes),
    ("POST", &["/api/v1/tasks/{foreign}/cancel", "/api/v1/tasks/{none}/cancel"], Local(400)),
    ("GET", &["/api-task/v1/tasks/{own}"], Denied),
    // 1.3 uploads
    ("GET", &["/api/v1/uploads?action=getPolicy&model=wan2.7-i2v"], Passes),
    (
        "GET",
        &["/api/v1/uploads", "/api/v1/uploads?action=list", "/api/v1/uploads?action=getPolicy&Action=list"],
        Denied,
    ),
    // 1.4 the account's own
    ("POST", &["/api/v1/tokens", "/api/v1/tokens?expire_in_seconds=1800"], Denied),
    ("POST GET", &["/api/v1/files", "/api/v1/files?page_no=1&page_size=10"], Denied),
    ("GET DELETE", &["/api/v1/files/file-1"], Denied),
    (
        "POST GET",
        &["/api/v1/fine-tunes", "/api/v1/deployments", "/api/v1/assistants", "/api/v1/threads"],
        Denied,
    ),
    (
        "GET DELETE",
        &["/api/v1/fine-tunes/ft-1", "/api/v1/fine-tunes/outputs", "/api/v1/fine-tunes/outputs/o-1"],
        Denied,
    ),
    ("POST", &["/api/v1/fine-tunes/ft-1/cancel"], Denied),
    ("GET", &["/api/v1/fine-tunes/ft-1/logs?offset=0&line=9", "/api/v1/fine-tunes/ft-1/stream"], Denied),
    ("GET DELETE PUT", &["/api/v1/deployments/d-1"], Denied),
    ("PUT", &["/api/v1/deployments/d-1/scale"], Denied),
    ("GET", &["/api/v1/deployments/d-1/events"], Denied),
    (
        "GET",
        &[
            "/api/v1/models",
            "/api/v1/models?page_no=1&page_size=10",
            "/api/v1/models/wan2.7-i2v",
            "/api/v1/models?model=wan2.7-i2v",
            "/api/v1/quotas?name=x&model=y&page_no=1&page_size=20",
        ],
        Denied,
    ),
    ("GET", &["/api/v1/public-keys/latest"], Passes),
    (
        "POST GET DELETE",
        &[
            "/api/v1/assistants/a-1",
            "/api/v1/assistants/a-1/files",
            "/api/v1/threads/t-1",
            "/api/v1/threads/t-1/messages",
            "/api/v1/threads/t-1/messages/m-1",
            "/api/v1/threads/t-1/runs",
            "/api/v1/threads/t-1/runs/r-1",
            "/api/v1/threads/t-1/runs/r-1/steps",
            "/api/v1/threads/t-1/runs/r-1/submit_tool_outputs",
            "/api/v1/threads/t-1/runs/r-1/cancel",
            "/api/v1/threads/runs",
            "/api/v1/agentstudio/agents",
            "/api/v1/agentstudio/sessions",
            "/api/v1/agentstudio/sessions/s-1/events/stream",
            "/api/v1/agentstudio/vaults/v-1/credentials",
            "/api/v1/agentstudio/memory_stores",
            "/api/v1/agentstudio/environments",
            "/api/v1/agentstudio/skills",
            "/api/v1/agentstudio/files",
            "/api/v1/agentstudio/deployments",
            "/api/v1/agentstudio/webhook_endpoints",
            "/api/v1/agentstudio/security/agent_logs",
        ],
        Denied,
    ),
    ("POST", &["/api/v1/apps/app-1/completion"], Denied),
    // 1.5 compatible surfaces, and a path of clients that the page does not name
    (
        "POST",
        &[
            "/compatible-mode/v1/chat/completions",
            "/compatible-mode/v1/completions",
            "/compatible-mode/v1/embeddings",
            "/compatible-mode/v1/responses",
            "/compatible-api/v1/reranks",
            "/apps/anthropic/v1/messages",
            "/apps/anthropic/v1/messages/count_tokens",
        ],
        Passes,
    ),
    (
        "POST GET DELETE",
        &[
            "/compatible-mode/v1/files",
            "/compatible-mode/v1/files/f-1",
            "/compatible-mode/v1/files/f-1/content",
            "/compatible-mode/v1/batches",
            "/compatible-mode/v1/batches/b-1",
            "/compatible-mode/v1/batches/b-1/cancel",
            "/compatible-mode/v1/systemone",
            "/compatible-mode/v1/reranks",
        ],
        Denied,
    ),
    (
        "POST",
        &[
            "/api/v2/apps/agent/app-1/compatible-mode/v1/responses",
            "/api/v2/apps/protocols/compatible-mode/v1/responses",
            "/api/v2/apps/claude-code-proxy/v1/messages",
        ],
        Denied,
    ),
    ("POST GET", &["/apps/anthropic/v1/messages/batches"], Denied),
    ("POST DELETE", &["/compatible-mode/v1/models"], Denied),
    (
        "GET",
        &["/compatible-mode/v1/responses/r-1", "/compatible-mode/v1/responses/r-1/input_items"],
        Refused(404, "not_stored"),
    ),
    ("POST", &["/compatible-mode/v1/responses/r-1/cancel"], Refused(404, "not_stored")),
    // 1.6 WebSocket
    ("GET", &["/api-ws/v1/inference", "/api-ws/v1/realtime?model=qwen-omni"], Shakes),
    ("POST", &["/api-ws/v1/inference", "/api-ws/v1/realtime?model=qwen-omni"], Denied),
];
