use super::*;

fn operation(method: &str, target: &str) -> Operation {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    classify(&method.parse().expect("a method"), path, query).operation
}

#[test]
fn every_listed_operation_has_its_name_and_group() {
    for (method, target, expected) in [
        ("POST", "/api/v1/services/aigc/video-generation/video-synthesis", Operation::Submit),
        ("POST", "/v1/services/aigc/image2video/video-synthesis/", Operation::Submit),
        ("POST", "/v1/services/audio/asr/transcription", Operation::Submit),
        ("POST", "/v1/services/aigc/image2image/image-synthesis", Operation::Service),
        ("POST", "/v1/services/aigc/text2image/image-synthesis", Operation::Service),
        ("POST", "/v1/services/aigc/text-generation/generation", Operation::Service),
        ("POST", "/api/v1/tokenizer", Operation::Tokenizer),
        ("GET", "/api/v1/public-keys/latest", Operation::PublicKey),
        ("GET", "/api/v1/tasks", Operation::TaskList),
        ("GET", "/api/v1/tasks/?page_no=1", Operation::TaskList),
        ("GET", "/api/v1/tasks/x", Operation::TaskGet),
        ("GET", "/api/v1/tasks/x/", Operation::TaskGet),
        ("POST", "/api/v1/tasks/x/cancel/", Operation::TaskCancel),
        ("GET", "/api/v1/uploads?action=getPolicy&model=wan2.7-i2v", Operation::UploadPolicy),
        ("POST", "/compatible-mode/v1/chat/completions", Operation::Chat),
        ("POST", "/compatible-mode/v1/completions", Operation::Completion),
        ("POST", "/compatible-mode/v1/embeddings", Operation::Embedding),
        ("POST", "/compatible-api/v1/reranks", Operation::Rerank),
        ("POST", "/compatible-mode/v1/responses", Operation::Response),
        ("GET", "/compatible-mode/v1/models", Operation::ModelList),
        ("HEAD", "/compatible-mode/v1/models/", Operation::ModelList),
        ("GET", "/compatible-mode/v1/models/qwen-plus", Operation::ModelGet),
        ("HEAD", "/compatible-mode/v1/models/siliconflow/deepseek-v3", Operation::ModelGet),
        ("GET", "/compatible-mode/v1/responses/r", Operation::StoredResponse),
        ("DELETE", "/compatible-mode/v1/responses/r", Operation::StoredResponse),
        ("GET", "/compatible-mode/v1/responses/r/input_items", Operation::StoredResponse),
        ("POST", "/compatible-mode/v1/responses/r/cancel", Operation::StoredResponse),
        ("POST", "/apps/anthropic/v1/messages", Operation::Message),
        ("POST", "/apps/anthropic/v1/messages/count_tokens", Operation::CountTokens),
        ("GET", "/api-ws/v1/inference/", Operation::Inference),
        ("GET", "/api-ws/v1/realtime?model=x", Operation::Realtime),
        ("GET", "/dashgate/v1/usage?by=day", Operation::OwnUsage),
        ("GET", "/dashgate/v1/balance/", Operation::OwnBalance),
        ("GET", "/dashgate/v1/key", Operation::OwnKey),
        ("POST", "/dashgate/v1/key/rotate", Operation::OwnKeyRotate),
        ("GET", "/dashgate/v1/openapi.json", Operation::OwnDocument),
        ("POST", "/api/v1/tokens?expire_in_seconds=60", Operation::Token),
    ] {
        assert_eq!(operation(method, target), expected, "{method} {target}");
        let has_no_group = expected.is_own_view() || expected == Operation::Token;
        assert!(expected.group().is_some() != has_no_group);
    }
}

#[test]
fn the_rest_is_unlisted() {
    for (method, target) in [
        ("HEAD", "/dashgate/v1/key"),
        ("POST", "/dashgate/v1/usage"),
        ("GET", "/dashgate/v1"),
        ("GET", "/dashgate/v1/keys"),
        ("GET", "/v1/balance"),
        ("POST", "/api/v1/"),
        ("POST", "/api/v1"),
        ("POST", "/api/v1x/tokenizer"),
        ("POST", "/API/v1/tokenizer"),
        ("GET", "/api/v1/files"),
        ("POST", "/api/v1/services/audio/asr/customization"),
        ("POST", "/api/v1/services/audio/tts/Customization/"),
        ("POST", "/api/v1/services/"),
        ("GET", "/api/v1/services/aigc/text-generation/generation"),
        ("DELETE", "/api/v1/tasks/x"),
        ("HEAD", "/api/v1/tasks/x"),
        ("GET", "/api/v1/tasks/x/cancel"),
        ("GET", "/api/v1/tasks/x/y"),
        ("GET", "/api/v1/uploads"),
        ("GET", "/api/v1/uploads?action=list"),
        ("GET", "/api/v1/uploads?action=getPolicy&action=list"),
        ("GET", "/api/v1/uploads?action=getPolicy&%61ction=list"),
        ("GET", "/api-task/v1/tasks/x"),
        ("GET", "/compatible-mode/v1/files"),
        ("GET", "/apps/anthropic/v1/messages/count_tokens"),
        ("POST", "/apps/anthropic/v1/messages/batches"),
        ("POST", "/compatible-mode/v1/models"),
        ("DELETE", "/compatible-mode/v1/models/qwen-plus"),
        ("GET", "/api/v1/models"),
        ("GET", "/compatible-mode/v1/responses"),
        ("POST", "/compatible-mode/v1/responses/compact"),
        ("GET", "/compatible-mode/v1/responses/r/x"),
        ("GET", "/compatible-mode/v1/responsesx/r"),
        ("POST", "/api/v2/apps/agent/x/compatible-mode/v1/responses"),
        ("GET", "/"),
    ] {
        assert_eq!(operation(method, target), Operation::Unlisted, "{method} {target}");
    }
}

#[test]
fn a_surface_is_told_from_the_first_segment() {
    for (path, expected) in [
        ("/compatible-mode//v1/chat", Surface::Compatible),
        ("/compatible-api/v1", Surface::Compatible),
        ("/apps/anthropic/v1;x", Surface::Anthropic),
        ("/compatible-modes/v1", Surface::Native),
        ("/api/v1/apps/a/completion", Surface::Native),
        ("/", Surface::Native),
        ("", Surface::Native),
    ] {
        assert_eq!(surface(path), expected, "{path}");
    }
}

#[test]
fn both_native_spellings_stand_for_one_root() {
    let call = classify(&Method::GET, "/v1/tasks/x/", None);
    assert_eq!((call.root, call.rest, call.task_id), ("/api/v1", "/tasks/x/", Some("x")));
}
