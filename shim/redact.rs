//! Replacing secrets in what streams by, before anything of it is written.
//!
//! What could be the beginning of a secret is held back until the next byte
//! tells, or the end: at most one byte less than the longest secret. At each
//! place the longest secret that fits is the one that is replaced.

/// The values that must not be written, by their first byte.
#[derive(Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
    /// For each first byte, which secrets begin with it, the longest first.
    by_first: Vec<Vec<usize>>,
}

struct Secret {
    value: Vec<u8>,
    shown: Vec<u8>,
}

enum Fit {
    /// Nothing begins here.
    None,
    /// This secret is here.
    Whole(usize),
    /// More bytes are needed to tell.
    Open,
}

impl Redactor {
    /// Adds a secret, as it is, as it stands in a JSON string, and as a terminal
    /// shows its line ends.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let mut shown = b"[redacted:".to_vec();
        shown.extend_from_slice(name);
        shown.push(b']');
        for form in [value.to_vec(), in_json(value), on_terminal(value)] {
            let known = self.secrets.iter().any(|secret| secret.value == form);
            if form.is_empty() || known {
                continue;
            }
            let shown = shown.clone();
            self.secrets.push(Secret { value: form, shown });
        }
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
        self.by_first = vec![Vec::new(); 256];
        for (index, secret) in self.secrets.iter().enumerate() {
            self.by_first[usize::from(secret.value[0])].push(index);
        }
    }

    /// There is nothing to replace.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Takes `held` (what was held back before) and `new`, puts into `out` what
    /// may be written, and leaves in `held` what may not yet. With `last`
    /// everything goes out. Says whether anything was replaced.
    pub fn feed(&self, held: &mut Vec<u8>, new: &[u8], last: bool, out: &mut Vec<u8>) -> bool {
        if self.is_empty() {
            out.append(held);
            out.extend_from_slice(new);
            return false;
        }
        let joined;
        let bytes = if held.is_empty() {
            new
        } else {
            let mut both = std::mem::take(held);
            both.extend_from_slice(new);
            joined = both;
            &joined
        };
        let mut redacted = false;
        let mut copied = 0;
        let mut at = 0;
        while at < bytes.len() {
            let candidates = &self.by_first[usize::from(bytes[at])];
            if candidates.is_empty() {
                at += 1;
                continue;
            }
            match self.fit(candidates, &bytes[at..], last) {
                Fit::None => at += 1,
                Fit::Whole(index) => {
                    let secret = &self.secrets[index];
                    out.extend_from_slice(&bytes[copied..at]);
                    out.extend_from_slice(&secret.shown);
                    at += secret.value.len();
                    copied = at;
                    redacted = true;
                }
                Fit::Open => break,
            }
        }
        out.extend_from_slice(&bytes[copied..at]);
        let rest = bytes[at..].to_vec();
        *held = rest;
        redacted
    }

    /// A text that is whole.
    pub fn text(&self, text: &str) -> String {
        let mut out = Vec::new();
        self.feed(&mut Vec::new(), text.as_bytes(), true, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn fit(&self, candidates: &[usize], bytes: &[u8], last: bool) -> Fit {
        for index in candidates {
            let value = &self.secrets[*index].value;
            if bytes.starts_with(value) {
                return Fit::Whole(*index);
            }
            // A longer one may yet come, and would go before a shorter one that is here.
            if !last && value.starts_with(bytes) {
                return Fit::Open;
            }
        }
        Fit::None
    }
}

fn in_json(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

fn on_terminal(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}
