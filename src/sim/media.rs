//! Contents of result files.

use bytes::Bytes;
use serde_json::json;

/// The content of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResultMedium {
    Video,
    Image,
    Transcript,
    Audio,
}

impl ResultMedium {
    const ALL: [ResultMedium; 4] =
        [ResultMedium::Video, ResultMedium::Image, ResultMedium::Transcript, ResultMedium::Audio];

    pub(super) fn extension(self) -> &'static str {
        match self {
            ResultMedium::Video => "mp4",
            ResultMedium::Image => "png",
            ResultMedium::Transcript => "json",
            ResultMedium::Audio => "wav",
        }
    }

    pub(super) fn of(name: &str) -> Option<ResultMedium> {
        let extension = name.rsplit_once('.')?.1;
        ResultMedium::ALL.into_iter().find(|medium| medium.extension() == extension)
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            ResultMedium::Video => "video/mp4",
            ResultMedium::Image => "image/png",
            ResultMedium::Transcript => "application/json",
            ResultMedium::Audio => "audio/wav",
        }
    }

    pub(super) fn content(self) -> Bytes {
        match self {
            ResultMedium::Video => Bytes::from_static(CLIP),
            ResultMedium::Image => Bytes::from_static(STILL),
            ResultMedium::Transcript => transcript(),
            ResultMedium::Audio => wav(AUDIO_MILLIS).into(),
        }
    }
}

fn transcript() -> Bytes {
    let sentence = json!({
        "begin_time": 100, "end_time": 3820, "text": "Hello from the simulator.", "sentence_id": 1,
        "words": [{"begin_time": 100, "end_time": 700, "text": "Hello", "punctuation": ""}],
    });
    let transcript = json!({
        "file_url": "https://example.com/audio.wav",
        "properties": {"audio_format": "pcm_s16le", "channels": [0], "original_sampling_rate": 16000,
            "original_duration_in_milliseconds": 3834},
        "transcripts": [{"channel_id": 0, "content_duration_in_milliseconds": 3720,
            "text": "Hello from the simulator.", "sentences": [sentence]}],
    });
    transcript.to_string().into()
}

/// A tone of 440 Hz, 16 bit mono at 16 kHz.
pub(super) fn tone(millis: u32) -> Vec<u8> {
    let sample = |number: u32| {
        let angle = f64::from(number) * 440.0 * std::f64::consts::TAU / f64::from(SAMPLES_PER_SECOND);
        (angle.sin() * 8000.0) as i16
    };
    (0..millis * SAMPLES_PER_SECOND / 1000).flat_map(|number| sample(number).to_le_bytes()).collect()
}

fn wav(millis: u32) -> Vec<u8> {
    let tone = tone(millis);
    let length = tone.len() as u32;
    let mut wav = Vec::with_capacity(tone.len() + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(length + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16u32.to_le_bytes());
    for field in [1u16, 1] {
        wav.extend_from_slice(&field.to_le_bytes());
    }
    wav.extend_from_slice(&SAMPLES_PER_SECOND.to_le_bytes());
    wav.extend_from_slice(&(SAMPLES_PER_SECOND * 2).to_le_bytes());
    for field in [2u16, 16] {
        wav.extend_from_slice(&field.to_le_bytes());
    }
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&length.to_le_bytes());
    wav.extend_from_slice(&tone);
    wav
}

/// Two seconds of a test card with a tone, H.264 baseline and AAC, made with ffmpeg's testsrc and sine.
const CLIP: &[u8] = include_bytes!("assets/clip.mp4");
const STILL: &[u8] = include_bytes!("assets/still.png");
const SAMPLES_PER_SECOND: u32 = 16_000;
const AUDIO_MILLIS: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_what_their_names_say() {
        assert_eq!(&ResultMedium::Video.content()[4..8], b"ftyp");
        assert_eq!(&ResultMedium::Image.content()[1..4], b"PNG");
        assert_eq!(&ResultMedium::Audio.content()[..4], b"RIFF");
        assert_eq!(ResultMedium::Audio.content().len(), 44 + 16_000);
        assert_eq!(ResultMedium::of("a-0.mp4"), Some(ResultMedium::Video));
        assert_eq!(ResultMedium::of("a"), None);
    }
}
