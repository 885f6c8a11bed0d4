//! Table of models: the services of each, and the tasks that an account may run.

use super::pattern::matches;

/// Models that `GET models` lists; [`find`] knows more, by pattern.
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

/// Rule of a service for the header `X-DashScope-Async: enable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallMode {
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

    pub(super) fn mode(self, family: SimulatedFamily) -> CallMode {
        match self {
            Service::TextEmbedding if family == SimulatedFamily::EmbeddingFile => CallMode::Async,
            Service::VideoSynthesis
            | Service::ImageToVideo
            | Service::TextToImage
            | Service::ImageToImage
            | Service::OutPainting
            | Service::ImageGeneration
            | Service::ThreeD
            | Service::VirtualModel
            | Service::Transcription => CallMode::Async,
            Service::Detect
            | Service::Multimodal
            | Service::TextGeneration
            | Service::TextEmbedding
            | Service::MultimodalEmbedding
            | Service::Rerank
            | Service::SpeechSynthesizer
            | Service::Understanding
            | Service::CodeGeneration => CallMode::Sync,
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
pub(super) enum SimulatedFamily {
    /// Wan 2.7, as in the three families that follow.
    TextToVideo,
    ImageToVideo,
    ReferenceToVideo,
    VideoEdit,
    /// Wan 3.0, which has wider ranges than Wan 2.7.
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

impl SimulatedFamily {
    pub(super) fn served_at(self, service: Service) -> bool {
        let services: &[Service] = match self {
            SimulatedFamily::TextToVideo
            | SimulatedFamily::ImageToVideo
            | SimulatedFamily::ReferenceToVideo
            | SimulatedFamily::VideoEdit
            | SimulatedFamily::Wan30
            | SimulatedFamily::Wan26
            | SimulatedFamily::Wan25
            | SimulatedFamily::Wan2 => &[Service::VideoSynthesis],
            SimulatedFamily::KeyFrames | SimulatedFamily::Animate => &[Service::ImageToVideo],
            SimulatedFamily::OtherVideo => &[Service::VideoSynthesis, Service::ImageToVideo],
            SimulatedFamily::Detect => &[Service::Detect],
            SimulatedFamily::Image => {
                &[Service::TextToImage, Service::ImageToImage, Service::OutPainting, Service::Multimodal]
            }
            SimulatedFamily::ImageChoices => &[Service::ImageGeneration, Service::Multimodal],
            SimulatedFamily::ThreeD => &[Service::ThreeD],
            SimulatedFamily::Transcription | SimulatedFamily::TranscriptionOfOne => &[Service::Transcription],
            SimulatedFamily::Text => {
                &[Service::TextGeneration, Service::Understanding, Service::CodeGeneration]
            }
            SimulatedFamily::TextAndImage => &[Service::Multimodal, Service::TextGeneration],
            SimulatedFamily::Speech => &[Service::Multimodal, Service::SpeechSynthesizer],
            SimulatedFamily::Embedding | SimulatedFamily::EmbeddingFile => &[Service::TextEmbedding],
            SimulatedFamily::MultimodalEmbedding => &[Service::MultimodalEmbedding],
            SimulatedFamily::Rerank => &[Service::Rerank],
            SimulatedFamily::Realtime => &[],
            SimulatedFamily::Legacy => {
                &[Service::VirtualModel, Service::Understanding, Service::CodeGeneration]
            }
        };
        services.contains(&service)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SimulatedModel {
    pub(super) family: SimulatedFamily,
    /// Number of tasks of one account that run at a time; the rest stay PENDING.
    pub(super) running: usize,
    pub(super) submits_per_second: u32,
}

pub(super) fn find(name: &str) -> Option<SimulatedModel> {
    let row = CATALOGUE.iter().find(|row| matches(row.0, name))?;
    Some(SimulatedModel { family: row.1, running: row.2, submits_per_second: row.3 })
}

/// Limits of synchronous models are per minute and in tokens; they are not simulated.
const UNLIMITED: u32 = u32::MAX;

/// Pattern, family, running tasks, submits a second. The first row that matches counts.
const CATALOGUE: &[(&str, SimulatedFamily, usize, u32)] = &[
    ("wan2.7-t2v*", SimulatedFamily::TextToVideo, 5, 5),
    ("wan2.7-i2v*", SimulatedFamily::ImageToVideo, 5, 5),
    ("wan2.7-r2v*", SimulatedFamily::ReferenceToVideo, 5, 5),
    ("wan2.7-videoedit*", SimulatedFamily::VideoEdit, 5, 5),
    ("wan2.7-image*", SimulatedFamily::ImageChoices, 5, 5),
    ("wan3.0-video*", SimulatedFamily::Wan30, 5, 5),
    ("wan2.2-kf2v-flash", SimulatedFamily::KeyFrames, 2, 2),
    ("wanx2.1-kf2v-plus", SimulatedFamily::KeyFrames, 2, 2),
    ("wan2.1-kf2v-plus", SimulatedFamily::KeyFrames, 2, 2),
    ("wan2.6-t2i*", SimulatedFamily::ImageChoices, 5, 1),
    ("wan2.6-image*", SimulatedFamily::ImageChoices, 5, 5),
    ("wan2.6-t2v*", SimulatedFamily::Wan26, 5, 5),
    ("wan2.6-i2v*", SimulatedFamily::Wan26, 5, 5),
    ("wan2.6-r2v*", SimulatedFamily::Wan26, 5, 5),
    ("wan2.5-t2v-preview", SimulatedFamily::Wan25, 5, 5),
    ("wan2.5-i2v-preview", SimulatedFamily::Wan25, 5, 5),
    ("wan2.2-t2v-plus", SimulatedFamily::Wan2, 2, 2),
    ("wan2.2-i2v-*", SimulatedFamily::Wan2, 2, 2),
    ("wan*2.1-t2v-*", SimulatedFamily::Wan2, 2, 2),
    ("wan*2.1-i2v-*", SimulatedFamily::Wan2, 2, 2),
    ("wan*2.1-vace-plus", SimulatedFamily::Wan2, 2, 2),
    ("wan2.2-animate-m*", SimulatedFamily::Animate, 1, 5),
    ("*-detect*", SimulatedFamily::Detect, 5, 5),
    ("wan2.2-s2v", SimulatedFamily::OtherVideo, 1, 5),
    ("emo-*", SimulatedFamily::OtherVideo, 1, 5),
    ("liveportrait*", SimulatedFamily::OtherVideo, 1, 5),
    ("happyhorse-*", SimulatedFamily::OtherVideo, 5, 5),
    ("kling*", SimulatedFamily::OtherVideo, 5, 5),
    ("vidu*", SimulatedFamily::OtherVideo, 5, 5),
    ("pixverse*", SimulatedFamily::OtherVideo, 5, 5),
    ("tripo*", SimulatedFamily::ThreeD, 5, 5),
    ("wanx-v1", SimulatedFamily::Image, 2, 2),
    ("wanx2.*-t2i*", SimulatedFamily::Image, 2, 2),
    ("wan2.2-t2i-*", SimulatedFamily::Image, 2, 2),
    ("wan2.5-t2i-preview", SimulatedFamily::Image, 5, 5),
    ("wan2.5-i2i-preview", SimulatedFamily::Image, 5, 5),
    ("wanx2.1-imageedit", SimulatedFamily::Image, 2, 2),
    ("qwen-image*", SimulatedFamily::Image, 2, 2),
    ("qwen-mt-image", SimulatedFamily::Image, 2, 2),
    ("image-out-painting", SimulatedFamily::Image, 2, 2),
    ("z-image*", SimulatedFamily::ImageChoices, 2, 2),
    ("qwen3-asr-flash-filetrans*", SimulatedFamily::TranscriptionOfOne, 100, 10),
    ("fun-asr*-realtime*", SimulatedFamily::Realtime, 100, 10),
    ("paraformer-realtime*", SimulatedFamily::Realtime, 100, 10),
    ("gummy-*", SimulatedFamily::Realtime, 100, 10),
    ("fun-asr*", SimulatedFamily::Transcription, 100, 10),
    ("paraformer-*", SimulatedFamily::Transcription, 100, 20),
    ("sensevoice-*", SimulatedFamily::Transcription, 100, 10),
    ("cosyvoice-*", SimulatedFamily::Speech, 100, UNLIMITED),
    ("sambert-*", SimulatedFamily::Speech, 100, UNLIMITED),
    ("*-realtime*", SimulatedFamily::Realtime, 100, UNLIMITED),
    ("qwen*-tts*", SimulatedFamily::Speech, 100, UNLIMITED),
    ("qwen*-asr*", SimulatedFamily::TextAndImage, 100, UNLIMITED),
    ("qwen*-vl*", SimulatedFamily::TextAndImage, 100, UNLIMITED),
    ("qwen*-omni*", SimulatedFamily::TextAndImage, 100, UNLIMITED),
    ("qwen3.5-*", SimulatedFamily::TextAndImage, 100, UNLIMITED),
    ("qwen*", SimulatedFamily::Text, 100, UNLIMITED),
    ("qwq*", SimulatedFamily::Text, 100, UNLIMITED),
    ("deepseek-*", SimulatedFamily::Text, 100, UNLIMITED),
    ("text-embedding-async-v*", SimulatedFamily::EmbeddingFile, 3, 1),
    ("text-embedding-v*", SimulatedFamily::Embedding, 100, UNLIMITED),
    ("multimodal-embedding-*", SimulatedFamily::MultimodalEmbedding, 100, UNLIMITED),
    ("tongyi-embedding-*", SimulatedFamily::MultimodalEmbedding, 100, UNLIMITED),
    ("gte-rerank*", SimulatedFamily::Rerank, 100, UNLIMITED),
    ("opennlu-v1", SimulatedFamily::Legacy, 100, UNLIMITED),
    ("virtualmodel*", SimulatedFamily::Legacy, 2, 2),
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
        assert_eq!(family("wan2.2-kf2v-flash"), Some(SimulatedFamily::KeyFrames));
        assert_eq!(family("wanx2.1-i2v-turbo"), Some(SimulatedFamily::Wan2));
        assert_eq!(family("wan2.7-t2v-2026-06-12"), Some(SimulatedFamily::TextToVideo));
        assert_eq!(family("qwen3-asr-flash-filetrans"), Some(SimulatedFamily::TranscriptionOfOne));
        assert_eq!(family("qwen3-omni-flash-realtime"), Some(SimulatedFamily::Realtime));
        assert_eq!(family("wan9.9-t2v"), None);
        assert!(!SimulatedFamily::KeyFrames.served_at(Service::VideoSynthesis));
        assert!(SimulatedFamily::KeyFrames.served_at(Service::ImageToVideo));
    }
}
