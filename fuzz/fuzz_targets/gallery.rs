//! Any bytes as the file of an object of the gallery. A digest that does not fit is put right, or little would get past it; what
//! is taken is written and read again.
#![no_main]

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tagalong::state::Gallery;

/// The file with the digest of the tensors that it holds.
fn with_digest(bytes: &[u8]) -> Option<Vec<u8>> {
    const KEY: &[u8] = br#"\"sha256\":\""#;
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let mut hash = Sha256::new();
    for name in ["patches", "labels"] {
        hash.update(tensors.tensor(name).ok()?.data());
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let at = bytes.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let mut bytes = bytes.to_vec();
    bytes.get_mut(at..at + digest.len())?.copy_from_slice(digest.as_bytes());
    Some(bytes)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for bytes in [Some(bytes.to_vec()), with_digest(bytes)].into_iter().flatten() {
        let mut gallery = Gallery::ephemeral();
        if let Ok(object) = gallery.import(&bytes, Some("fuzzed")) {
            let exported = gallery.export(&object.name).expect("what was taken can be given");
            Gallery::ephemeral().import(&exported, None).expect("what was given can be taken");
        }
    }
});
