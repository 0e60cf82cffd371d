//! Files for what is no text in an answer.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use crate::{exit::Failure, render::text::Text, text};

/// How much of a tool's name is in the names of its files.
const MAX_STEM_CHARS: usize = 60;

/// How many numbers are tried for a name that is free.
const MAX_NUMBER: u32 = 10_000;

/// A directory that files are saved to. None that is there is overwritten.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    stem: String,
    next: u32,
}

impl Files {
    /// The directory, made when it is missing, and what the names of the files begin with.
    pub(crate) fn new(dir: PathBuf, stem: &str) -> Result<Self, Failure> {
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
        Ok(Self {
            dir,
            stem: clean(stem),
            next: 1,
        })
    }

    /// Saves this and says where: the first number whose name is free.
    pub(crate) fn save(&mut self, mime_type: &str, data: &[u8]) -> Result<Text, Failure> {
        let extension = extension(mime_type);
        while self.next <= MAX_NUMBER {
            let path = self
                .dir
                .join(format!("{}-{}.{extension}", self.stem, self.next));
            self.next += 1;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    if let Err(error) = file.write_all(data) {
                        // Half of an image is none. What cannot be removed stays half.
                        let _ = fs::remove_file(&path);
                        return Err(failed(&path, &error));
                    }
                    return Ok(text!("{}", path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, &error)),
            }
        }
        Err(Failure::usage(text!("{} is full of such files", self.dir)))
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::usage(text!("cannot save to {}: {}", path, error))
}

/// A tool's name as a part of a file's: nothing that a path or a shell reads otherwise.
fn clean(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let clean: String = name.chars().take(MAX_STEM_CHARS).map(keep).collect();
    match clean.trim_matches('-') {
        "" => "answer".to_owned(),
        clean => clean.to_owned(),
    }
}

fn extension(mime_type: &str) -> &'static str {
    match mime_type.split(';').next().unwrap_or_default().trim() {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "image/svg+xml" => "svg",
        "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
        "audio/mpeg" | "audio/mp3" => "mp3",
        "audio/ogg" => "ogg",
        "video/mp4" => "mp4",
        "application/pdf" => "pdf",
        "application/json" => "json",
        "application/zip" => "zip",
        "application/gzip" | "application/x-gzip" => "gz",
        "text/plain" => "txt",
        "text/html" => "html",
        "text/markdown" => "md",
        "text/csv" => "csv",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_no_name_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("etc-x-1.png"), "mine").unwrap();
        let mut files = Files::new(dir.clone(), "../../etc/x").unwrap();
        files.save("image/png", b"one").unwrap();
        files.save("no/such; charset=x", b"two").unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("etc-x-1.png"), "mine");
        assert_eq!(read("etc-x-2.png"), "one");
        assert_eq!(read("etc-x-3.bin"), "two");
        assert_eq!(clean("///"), "answer");
        assert_eq!(clean(&"x".repeat(500)).len(), MAX_STEM_CHARS);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Files::new(file.path().join("below"), "x").unwrap_err();
        assert!(error.to_text().as_str().contains("cannot save to"));
    }
}
