use super::open::Checkpoint;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// Tensors whose data is sampled, and bytes per sample: enough to tell a fine-tune from its base, few enough pages to
/// cost milliseconds on a cold disk.
const SAMPLED_TENSORS: usize = 64;
const SAMPLE_BYTES: usize = 64;

/// A number that is the same for the same weights on every machine and every day, and differs for others: what keys
/// everything that was computed with a model.
///
/// Hashes the configuration, the tensor index and a few samples of the data; it guards against mistakes, not against
/// somebody who forges a checkpoint.
pub(super) fn fingerprint(checkpoint: &Checkpoint) -> u64 {
    // The key is part of the value's meaning: changing it makes every stored fingerprint void.
    let mut hasher = SipHasher13::new_with_keys(0x6c6d_7863_6865_636b, 0x706f_696e_7476_3031);
    checkpoint.config().to_string().hash(&mut hasher);
    let names: Vec<&str> = checkpoint.names().collect();
    let stride = names.len().div_ceil(SAMPLED_TENSORS).max(1);
    for (i, name) in names.iter().enumerate() {
        let Some(tensor) = checkpoint.get(name) else { continue };
        name.hash(&mut hasher);
        format!("{:?}", tensor.dtype).hash(&mut hasher);
        for &n in tensor.shape {
            hasher.write_u64(n as u64);
        }
        if i % stride == 0 {
            let data = tensor.data;
            let sample = SAMPLE_BYTES.min(data.len());
            for start in [0, (data.len() - sample) / 2, data.len() - sample] {
                hasher.write(&data[start..start + sample]);
            }
        }
    }
    hasher.finish()
}
