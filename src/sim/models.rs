//! Which models there are, where each is served, and how much of it an account may run.

use super::pattern::matches;

/// What `GET models` lists; [`find`] knows more, by pattern.
pub(super) const LISTED: [&str; 14] = [
    "wan2.7-t2v",
    "wan2.7-i2v",
    "wan2.7-r2v",
    "wan2.7-videoedit",
    "wan2.2-kf2v-flash",
    "wan2.2-t2i-flash",
    "wan2.7-image",
    "qwen-plus",
    "qwen3-vl-plus",
    "qwen-image",
    "text-embedding-v4",
    "gte-rerank-v2",
    "paraformer-v2",
    "cosyvoice-v2",
];

/// The services under `services/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    VideoSynthesis,
    ImageToVideo,
    Detect,
    TextToImage,
    ImageToImage,
    OutPainting,
    ImageGeneration,
    Multimodal,
    TextGeneration,
    ThreeD,
    VirtualModel,
    TextEmbedding,
    MultimodalEmbedding,
    Rerank,
    Transcription,
    SpeechSynthesizer,
    Understanding,
    CodeGeneration,
}

/// Whether a service is called with `X-DashScope-Async: enable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Sync,
    Async,
}

impl Service {
    pub(super) fn at(path: &[&str]) -> Option<Service> {
        let service = match path {
            ["aigc", "video-generation", "video-synthesis"] => Service::VideoSynthesis,
            ["aigc", "image2video", "video-synthesis"] => Service::ImageToVideo,
            ["aigc", "image2video", detect] if detect.ends_with("-detect") => Service::Detect,
            ["aigc", "text2image", "image-synthesis"] => Service::TextToImage,
            ["aigc", "image2image", "image-synthesis"] => Service::ImageToImage,
            ["aigc", "image2image", "out-painting"] => Service::OutPainting,
            ["aigc", "image-generation", "generation"] => Service::ImageGeneration,
            ["aigc", "multimodal-generation", "generation"] => Service::Multimodal,
            ["aigc", "text-generation", "generation"] => Service::TextGeneration,
            ["aigc", "video-generation", "3d-generation"] => Service::ThreeD,
            ["aigc", "virtualmodel", "generation"] => Service::VirtualModel,
            ["embeddings", "text-embedding", "text-embedding"] => Service::TextEmbedding,
            ["embeddings", "multimodal-embedding", "multimodal-embedding"] => Service::MultimodalEmbedding,
            ["rerank", "text-rerank", "text-rerank"] => Service::Rerank,
            ["audio", "asr", "transcription"] => Service::Transcription,
            ["audio", "tts", "SpeechSynthesizer"] => Service::SpeechSynthesizer,
            ["nlp", "nlu", "understanding"] => Service::Understanding,
            ["aigc", "code-generation", "generation"] => Service::CodeGeneration,
            _ => return None,
        };
        Some(service)
    }

    pub(super) fn mode(self, family: Family) -> Mode {
        match self {
            Service::TextEmbedding if family == Family::EmbeddingFile => Mode::Async,
            Service::VideoSynthesis
            | Service::ImageToVideo
            | Service::TextToImage
            | Service::ImageToImage
            | Service::OutPainting
            | Service::ImageGeneration
            | Service::ThreeD
            | Service::VirtualModel
            | Service::Transcription => Mode::Async,
            Service::Detect
            | Service::Multimodal
            | Service::TextGeneration
            | Service::TextEmbedding
            | Service::MultimodalEmbedding
            | Service::Rerank
            | Service::SpeechSynthesizer
            | Service::Understanding
            | Service::CodeGeneration => Mode::Sync,
        }
    }

    /// The last part of `user_api_unique_key` in the task list.
    pub(super) fn key(self) -> &'static str {
        match self {
            Service::VideoSynthesis => "aigc:video-generation:video-synthesis",
            Service::ImageToVideo => "aigc:image2video:video-synthesis",
            Service::TextToImage => "aigc:text2image:image-synthesis",
            Service::ImageToImage => "aigc:image2image:image-synthesis",
            Service::OutPainting => "aigc:image2image:out-painting",
            Service::ImageGeneration => "aigc:image-generation:generation",
            Service::ThreeD => "aigc:video-generation:3d-generation",
            Service::VirtualModel => "aigc:virtualmodel:generation",
            Service::Transcription => "audio:asr:transcription",
            Service::TextEmbedding => "embeddings:text-embedding:text-embedding",
            Service::Detect
            | Service::Multimodal
            | Service::TextGeneration
            | Service::MultimodalEmbedding
            | Service::Rerank
            | Service::SpeechSynthesizer
            | Service::Understanding
            | Service::CodeGeneration => "sync",
        }
    }
}

/// Models with the same parameters, outputs and usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Wan 2.7, and 3.0 with its wider ranges.
    TextToVideo,
    ImageToVideo,
    ReferenceToVideo,
    VideoEdit,
    Wan30,
    Wan26,
    Wan25,
    /// Wan 2.1 and 2.2.
    Wan2,
    KeyFrames,
    Animate,
    /// Other video models: HappyHorse, Kling, Vidu, PixVerse, s2v, the portraits.
    OtherVideo,
    Detect,
    /// Image models that answer with `results`.
    Image,
    /// Image models that answer with `choices`.
    ImageChoices,
    ThreeD,
    Transcription,
    /// One file, one `result`.
    TranscriptionOfOne,
    Text,
    TextAndImage,
    Speech,
    Embedding,
    EmbeddingFile,
    MultimodalEmbedding,
    Rerank,
    /// Models of the WebSocket protocols.
    Realtime,
    Legacy,
}

impl Family {
    pub(super) fn served_at(self, service: Service) -> bool {
        let services: &[Service] = match self {
            Family::TextToVideo
            | Family::ImageToVideo
            | Family::ReferenceToVideo
            | Family::VideoEdit
            | Family::Wan30
            | Family::Wan26
            | Family::Wan25
            | Family::Wan2 => &[Service::VideoSynthesis],
            Family::KeyFrames | Family::Animate => &[Service::ImageToVideo],
            Family::OtherVideo => &[Service::VideoSynthesis, Service::ImageToVideo],
            Family::Detect => &[Service::Detect],
            Family::Image => {
                &[Service::TextToImage, Service::ImageToImage, Service::OutPainting, Service::Multimodal]
            }
            Family::ImageChoices => &[Service::ImageGeneration, Service::Multimodal],
            Family::ThreeD => &[Service::ThreeD],
            Family::Transcription | Family::TranscriptionOfOne => &[Service::Transcription],
            Family::Text => &[Service::TextGeneration, Service::Understanding, Service::CodeGeneration],
            Family::TextAndImage => &[Service::Multimodal, Service::TextGeneration],
            Family::Speech => &[Service::Multimodal, Service::SpeechSynthesizer],
            Family::Embedding | Family::EmbeddingFile => &[Service::TextEmbedding],
            Family::MultimodalEmbedding => &[Service::MultimodalEmbedding],
            Family::Rerank => &[Service::Rerank],
            Family::Realtime => &[],
            Family::Legacy => &[Service::VirtualModel, Service::Understanding, Service::CodeGeneration],
        };
        services.contains(&service)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) family: Family,
    /// Tasks of one account that run at a time; the rest stay PENDING.
    pub(super) running: usize,
    pub(super) submits_per_second: u32,
}

pub(super) fn find(name: &str) -> Option<Model> {
    let row = CATALOGUE.iter().find(|row| matches(row.0, name))?;
    Some(Model { family: row.1, running: row.2, submits_per_second: row.3 })
}

/// Limits of synchronous models are per minute and in tokens; they are not simulated.
const UNLIMITED: u32 = u32::MAX;

/// Pattern, family, running tasks, submits a second. The first that matches counts.
const CATALOGUE: &[(&str, Family, usize, u32)] = &[
    ("wan2.7-t2v*", Family::TextToVideo, 5, 5),
    ("wan2.7-i2v*", Family::ImageToVideo, 5, 5),
    ("wan2.7-r2v*", Family::ReferenceToVideo, 5, 5),
    ("wan2.7-videoedit*", Family::VideoEdit, 5, 5),
    ("wan2.7-image*", Family::ImageChoices, 5, 5),
    ("wan3.0-video*", Family::Wan30, 5, 5),
    ("wan2.2-kf2v-flash", Family::KeyFrames, 2, 2),
    ("wanx2.1-kf2v-plus", Family::KeyFrames, 2, 2),
    ("wan2.1-kf2v-plus", Family::KeyFrames, 2, 2),
    ("wan2.6-t2i*", Family::ImageChoices, 5, 1),
    ("wan2.6-image*", Family::ImageChoices, 5, 5),
    ("wan2.6-t2v*", Family::Wan26, 5, 5),
    ("wan2.6-i2v*", Family::Wan26, 5, 5),
    ("wan2.6-r2v*", Family::Wan26, 5, 5),
    ("wan2.5-t2v-preview", Family::Wan25, 5, 5),
    ("wan2.5-i2v-preview", Family::Wan25, 5, 5),
    ("wan2.2-t2v-plus", Family::Wan2, 2, 2),
    ("wan2.2-i2v-*", Family::Wan2, 2, 2),
    ("wan*2.1-t2v-*", Family::Wan2, 2, 2),
    ("wan*2.1-i2v-*", Family::Wan2, 2, 2),
    ("wan*2.1-vace-plus", Family::Wan2, 2, 2),
    ("wan2.2-animate-m*", Family::Animate, 1, 5),
    ("*-detect*", Family::Detect, 5, 5),
    ("wan2.2-s2v", Family::OtherVideo, 1, 5),
    ("emo-*", Family::OtherVideo, 1, 5),
    ("liveportrait*", Family::OtherVideo, 1, 5),
    ("happyhorse-*", Family::OtherVideo, 5, 5),
    ("kling*", Family::OtherVideo, 5, 5),
    ("vidu*", Family::OtherVideo, 5, 5),
    ("pixverse*", Family::OtherVideo, 5, 5),
    ("tripo*", Family::ThreeD, 5, 5),
    ("wanx-v1", Family::Image, 2, 2),
    ("wanx2.*-t2i*", Family::Image, 2, 2),
    ("wan2.2-t2i-*", Family::Image, 2, 2),
    ("wan2.5-t2i-preview", Family::Image, 5, 5),
    ("wan2.5-i2i-preview", Family::Image, 5, 5),
    ("wanx2.1-imageedit", Family::Image, 2, 2),
    ("qwen-image*", Family::Image, 2, 2),
    ("qwen-mt-image", Family::Image, 2, 2),
    ("image-out-painting", Family::Image, 2, 2),
    ("z-image*", Family::ImageChoices, 2, 2),
    ("qwen3-asr-flash-filetrans*", Family::TranscriptionOfOne, 100, 10),
    ("fun-asr*-realtime*", Family::Realtime, 100, 10),
    ("paraformer-realtime*", Family::Realtime, 100, 10),
    ("gummy-*", Family::Realtime, 100, 10),
    ("fun-asr*", Family::Transcription, 100, 10),
    ("paraformer-*", Family::Transcription, 100, 20),
    ("sensevoice-*", Family::Transcription, 100, 10),
    ("cosyvoice-*", Family::Speech, 100, UNLIMITED),
    ("sambert-*", Family::Speech, 100, UNLIMITED),
    ("*-realtime*", Family::Realtime, 100, UNLIMITED),
    ("qwen*-tts*", Family::Speech, 100, UNLIMITED),
    ("qwen*-asr*", Family::TextAndImage, 100, UNLIMITED),
    ("qwen*-vl*", Family::TextAndImage, 100, UNLIMITED),
    ("qwen*-omni*", Family::TextAndImage, 100, UNLIMITED),
    ("qwen3.5-*", Family::TextAndImage, 100, UNLIMITED),
    ("qwen*", Family::Text, 100, UNLIMITED),
    ("qwq*", Family::Text, 100, UNLIMITED),
    ("deepseek-*", Family::Text, 100, UNLIMITED),
    ("text-embedding-async-v*", Family::EmbeddingFile, 3, 1),
    ("text-embedding-v*", Family::Embedding, 100, UNLIMITED),
    ("multimodal-embedding-*", Family::MultimodalEmbedding, 100, UNLIMITED),
    ("tongyi-embedding-*", Family::MultimodalEmbedding, 100, UNLIMITED),
    ("gte-rerank*", Family::Rerank, 100, UNLIMITED),
    ("opennlu-v1", Family::Legacy, 100, UNLIMITED),
    ("virtualmodel*", Family::Legacy, 2, 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_model_exists() {
        for name in LISTED {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn models_belong_to_their_paths() {
        let family = |name| find(name).map(|model| model.family);
        assert_eq!(family("wan2.2-kf2v-flash"), Some(Family::KeyFrames));
        assert_eq!(family("wanx2.1-i2v-turbo"), Some(Family::Wan2));
        assert_eq!(family("wan2.7-t2v-2026-06-12"), Some(Family::TextToVideo));
        assert_eq!(family("qwen3-asr-flash-filetrans"), Some(Family::TranscriptionOfOne));
        assert_eq!(family("qwen3-omni-flash-realtime"), Some(Family::Realtime));
        assert_eq!(family("wan9.9-t2v"), None);
        assert!(!Family::KeyFrames.served_at(Service::VideoSynthesis));
        assert!(Family::KeyFrames.served_at(Service::ImageToVideo));
    }
}
