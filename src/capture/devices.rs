//! Which cameras there are, for a person to choose from.

/// A camera, or a device node that looks like one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeviceInfo {
    /// What to set `device` to: a path, or a number for `nokhwa`.
    pub device: String,
    /// Names that stay the same from one start to the next, under `/dev/v4l/by-id` and by-path; `device` takes them.
    pub names: Vec<String>,
    /// What the device calls itself.
    pub card: String,
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// Whether a camera can be configured with it.
    pub usable: bool,
    /// Why it is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub formats: Vec<DeviceFormat>,
}

/// A pixel format that a device offers.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DeviceFormat {
    /// The four-character code.
    pub pixels: String,
    pub description: String,
    /// Whether it is one of ours.
    pub known: bool,
    pub sizes: Vec<DeviceSize>,
}

/// A size, or a range of sizes, that a device offers in one format.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DeviceSize {
    /// Pixels; the largest of a range.
    pub width: u32,
    /// Pixels; the largest of a range.
    pub height: u32,
    /// The smallest width and height of a range, and its steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<SizeRange>,
    /// Frames a second, the fastest first; the ends, where any rate between is to be had.
    pub fps: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SizeRange {
    pub min_width: u32,
    pub min_height: u32,
    pub step_width: u32,
    pub step_height: u32,
}

/// Every camera that the system knows of, the unusable ones too. Whatever is odd about a device is told as its
/// problem.
pub fn devices() -> Vec<DeviceInfo> {
    #[cfg(target_os = "linux")]
    return super::v4l2::devices::list();
    #[cfg(all(not(target_os = "linux"), feature = "nokhwa"))]
    return super::nokhwa::list();
    #[cfg(all(not(target_os = "linux"), not(feature = "nokhwa")))]
    return Vec::new();
}
