//! The weight of each level, for lanes that can look up bytes: see [`Lanes::store_weights`](super::lanes::Lanes).

/// (256)
pub static WEIGHTS: Table = Table(weights());

/// On a cache line, so that the widest load of a quarter of it touches one.
#[repr(align(64))]
pub struct Table([u8; 256]);

impl std::ops::Deref for Table {
    type Target = [u8; 256];

    fn deref(&self) -> &[u8; 256] {
        &self.0
    }
}

/// 255 * 2^((level - 255) / 28), rounded; 0 for level 0.
const fn weights() -> [u8; 256] {
    // 2^(-1/28)
    const STEP: f64 = 0.975_548_642_052_573_2;
    let mut table = [0; 256];
    let mut weight = 255.0f64;
    let mut level = 255;
    while level > 0 {
        table[level] = (weight + 0.5) as u8;
        weight *= STEP;
        level -= 1;
    }
    table
}
