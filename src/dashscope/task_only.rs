//! Models that DashScope runs only as tasks, beside the services of [`super::operation::Operation::Submit`]: without
//! `X-DashScope-Async: enable` it answers 403 AccessDenied, "current user api does not support synchronous calls." A model
//! that runs only synchronously gets a 403 with the header.

use super::pattern::matches;

/// Models that a service runs only as tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskModels {
    All,
    /// Names, or patterns with `*`. Other models of the service answer at once, or may do so.
    Named(&'static [&'static str]),
}

impl TaskModels {
    /// The models of the service at a path on the upstream; `None` if it runs none of them only as tasks.
    pub fn of(path: &str) -> Option<Self> {
        let service = path.strip_prefix("/api/v1/services/")?;
        let service = service.strip_suffix('/').unwrap_or(service);
        let found = SERVICES.iter().find(|(name, _)| service.eq_ignore_ascii_case(name));
        found.map(|(_, models)| *models)
    }

    pub fn contains(self, model: &str) -> bool {
        match self {
            TaskModels::All => true,
            TaskModels::Named(patterns) => patterns.iter().any(|pattern| matches(pattern, model)),
        }
    }
}

/// Protocol 1.1. `wan2.2-t2i-*` is not named: `ImageSynthesis.sync_call` of the Python SDK 2.0.2 calls these models without
/// the header.
const SERVICES: [(&str, TaskModels); 7] = [
    ("aigc/video-generation/3d-generation", TaskModels::All),
    ("aigc/image2image/image-synthesis", TaskModels::All),
    ("aigc/image2image/out-painting", TaskModels::All),
    ("aigc/image-generation/generation", TaskModels::All),
    ("aigc/virtualmodel/generation", TaskModels::All),
    (
        "aigc/text2image/image-synthesis",
        TaskModels::Named(&[
            "wanx*",
            "wan2.1-t2i-*",
            "wan2.5-t2i-*",
            "qwen-image*",
            "flux-*",
            "stable-diffusion-*",
        ]),
    ),
    ("embeddings/text-embedding/text-embedding", TaskModels::Named(&["text-embedding-async-*"])),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_counts_only_where_a_service_answers_in_both_ways() {
        let images = "/api/v1/services/aigc/text2image/image-synthesis";
        let embeddings = "/api/v1/services/embeddings/text-embedding/text-embedding/";
        for (path, model, expected) in [
            (images, "wanx-v1", true),
            (images, "wanx2.1-t2i-turbo", true),
            (images, "wan2.5-t2i-preview", true),
            (images, "qwen-image-plus", true),
            (images, "wan2.2-t2i-flash", false),
            (images, "wan2.2-t2i-plus", false),
            (images, "wan9-t2i", false),
            (embeddings, "text-embedding-async-v2", true),
            (embeddings, "text-embedding-v4", false),
            ("/api/v1/services/aigc/image2image/image-synthesis", "wan2.5-i2i-preview", true),
            ("/api/v1/services/AIGC/image-generation/generation/", "wan2.7-image", true),
            ("/api/v1/services/aigc/multimodal-generation/generation", "qwen-image-plus", false),
            ("/compatible-mode/v1/embeddings", "text-embedding-async-v2", false),
        ] {
            assert_eq!(
                TaskModels::of(path).is_some_and(|models| models.contains(model)),
                expected,
                "{path} {model}"
            );
        }
    }
}
