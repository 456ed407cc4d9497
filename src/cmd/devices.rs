use super::out;
use crate::capture::devices::{DeviceFormat, DeviceSize, SizeRange};
use crate::capture::{DeviceInfo, devices};
use crate::embed::{Adapter, adapters};

/// List the cameras and what each can deliver, and the graphics processors.
///
/// For each camera: the path to give as `device` in the configuration, names of it that survive a restart and
/// another socket, and its pixel formats with their sizes and rates. Formats that tagalong cannot read stand last;
/// `--json` tells their sizes too. For each graphics processor: what it computes in, and whether it would run the model.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  What is plugged in:
      tagalong devices

  Names that last, for the configuration:
      tagalong devices --json | jq -r '.devices[] | select(.usable) | .names[0]'";

#[derive(serde::Serialize)]
struct Listing {
    devices: Vec<DeviceInfo>,
    /// Those that a Vulkan driver serves, the one that is taken first.
    graphics: Vec<Adapter>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let devices = devices();
        // A program without them lists none.
        let graphics = adapters().unwrap_or_default();
        if self.json {
            return out::json(&Listing { devices, graphics });
        }
        let mut parts: Vec<String> = devices.iter().map(render).collect();
        if devices.is_empty() {
            parts.push("no camera is connected\n".into());
        }
        parts.extend(graphics.iter().enumerate().map(|(at, adapter)| render_graphics(adapter, at == 0)));
        out::print(&parts.join("\n"))
    }
}

/// `taken` is that which would run the model.
fn render_graphics(adapter: &Adapter, taken: bool) -> String {
    let Adapter { name, kind, driver, f16, subgroups, largest_buffer, unfit } = adapter;
    let mut text = format!("graphics processor  {} ({kind}, {})\n", out::harmless(name), out::harmless(driver));
    let has = |what: &str, there: bool| if there { what.to_owned() } else { format!("no {what}") };
    text.push_str(&format!(
        "  {}, {}, buffers of up to {} MiB\n",
        has("floats of 16 bits", *f16),
        has("subgroups", *subgroups),
        largest_buffer >> 20
    ));
    text.push_str(&match unfit {
        Some(unfit) => format!("  cannot run the model: {}\n", out::harmless(unfit)),
        None if !taken => "  not taken: the first is\n".into(),
        None if adapter.is_software() => {
            "  runs vision transformers with `runtime = \"wgpu\"` alone: it is a program on the CPU, and slower\n"
                .into()
        }
        None => format!("  runs vision transformers, in {}\n", if *f16 { "f16" } else { "f32" }),
    });
    text
}

fn render(device: &DeviceInfo) -> String {
    let origin: Vec<&str> =
        [&device.driver, &device.bus].into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
    let origin = if origin.is_empty() { String::new() } else { format!(" ({})", origin.join(", ")) };
    let mut text = format!("{}  {}{}\n", device.device, out::harmless(&device.card), out::harmless(&origin));
    for name in &device.names {
        text.push_str(&format!("  also {}\n", out::harmless(name)));
    }
    if !device.usable {
        let problem = device.problem.as_deref().unwrap_or("it is no camera");
        text.push_str(&format!("  cannot be used: {}\n", out::harmless(problem)));
    } else if let Some(problem) = &device.problem {
        text.push_str(&format!("  {}\n", out::harmless(problem)));
    }
    let (read, unread): (Vec<_>, Vec<_>) = device.formats.iter().partition(|format| format.known);
    text.extend(read.into_iter().map(render_format));
    if !unread.is_empty() {
        let names: Vec<_> = unread.iter().map(|format| out::harmless(&format.pixels)).collect();
        text.push_str(&format!("  not read by tagalong: {}\n", names.join(", ")));
    }
    text
}

fn render_format(format: &DeviceFormat) -> String {
    let mut text = format!("  {}  {}\n", out::harmless(&format.pixels), out::harmless(&format.description));
    for size in &format.sizes {
        text.push_str(&format!("      {}\n", render_size(size)));
    }
    text
}

fn render_size(size: &DeviceSize) -> String {
    let mut text = match size.range {
        Some(SizeRange { min_width, min_height, step_width, step_height }) => {
            let steps = format!("in steps of {step_width} and {step_height}");
            format!("{min_width}x{min_height} to {}x{} {steps}", size.width, size.height)
        }
        None => format!("{}x{}", size.width, size.height),
    };
    if !size.fps.is_empty() {
        let rates: Vec<String> = size.fps.iter().map(|fps| format!("{}", (fps * 100.0).round() / 100.0)).collect();
        text.push_str(&format!(" at {} fps", rates.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graphics_processor_is_told_with_what_it_would_do() {
        let orin = Adapter {
            name: "Orin".into(),
            kind: "integrated",
            driver: "NVIDIA 540.4.0".into(),
            f16: true,
            subgroups: false,
            largest_buffer: 128 << 20,
            unfit: None,
        };
        let expected = "\
graphics processor  Orin (integrated, NVIDIA 540.4.0)
  floats of 16 bits, no subgroups, buffers of up to 128 MiB
  runs vision transformers, in f16
";
        assert_eq!(render_graphics(&orin, true), expected);
        assert!(render_graphics(&orin, false).contains("not taken"));
        let program = Adapter { kind: "software", ..orin.clone() };
        assert!(render_graphics(&program, true).contains("`runtime = \"wgpu\"` alone"));
        let unfit = Adapter { unfit: Some("it is old".into()), ..orin };
        assert!(render_graphics(&unfit, true).contains("cannot run the model: it is old"));
    }

    #[test]
    fn a_camera_is_told_with_all_it_offers() {
        let range = SizeRange { min_width: 16, min_height: 16, step_width: 2, step_height: 1 };
        let fixed = DeviceSize { width: 640, height: 480, range: None, fps: vec![30.0, 29.970_03, 7.5] };
        let ranged = DeviceSize { width: 1920, height: 1080, range: Some(range), fps: vec![] };
        let format = |pixels: &str, description: &str, known, sizes| DeviceFormat {
            pixels: pixels.into(),
            description: description.into(),
            known,
            sizes,
        };
        let device = DeviceInfo {
            device: "/dev/video0".into(),
            names: vec!["/dev/v4l/by-id/usb-cam-index0".into()],
            card: "A Camera".into(),
            driver: "uvcvideo".into(),
            bus: "usb-1".into(),
            usable: true,
            problem: None,
            formats: vec![
                format("YUYV", "YUYV 4:2:2", true, vec![fixed]),
                format("H264", "H.264", false, vec![ranged.clone()]),
                format("NV12", "Y/UV 4:2:0", true, vec![ranged]),
                format("RG16", "16-bit Bayer RGRG/GBGB", false, vec![]),
            ],
        };
        let expected = "\
/dev/video0  A Camera (uvcvideo, usb-1)
  also /dev/v4l/by-id/usb-cam-index0
  YUYV  YUYV 4:2:2
      640x480 at 30, 29.97, 7.5 fps
  NV12  Y/UV 4:2:0
      16x16 to 1920x1080 in steps of 2 and 1
  not read by tagalong: H264, RG16
";
        assert_eq!(render(&device), expected);
        let broken = DeviceInfo {
            device: "/dev/video1".into(),
            card: "Metadata".into(),
            problem: Some("it captures no pictures".into()),
            ..DeviceInfo::default()
        };
        assert_eq!(render(&broken), "/dev/video1  Metadata\n  cannot be used: it captures no pictures\n");
    }
}
