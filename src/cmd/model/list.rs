use crate::cmd::out;
use crate::model::catalogue::{Entry, entries};

/// List the checkpoints that can be fetched.
///
/// Each is published by its authors, under the licence that is told. A digest that is known is checked; where the
/// authors publish none, the first fetch pins the one that it finds.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// One JSON array, with addresses and digests
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  What there is, and what may be used in a product:
      tagalong model list
      tagalong model list | grep -v NC

  Where a file is, to fetch it elsewhere:
      tagalong model list --json";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let entries = entries();
        if self.json {
            return out::json(&entries);
        }
        let width = |field: fn(&Entry) -> usize| entries.iter().map(field).max().unwrap_or(0);
        let (name, title) = (width(|entry| entry.name.len()), width(|entry| entry.title.len()));
        for entry in &entries {
            let digest = if entry.sha256.is_some() { "digest known" } else { "digest pinned by the first fetch" };
            out::line(format_args!("{:name$}  {:title$}  {:12}  {digest}", entry.name, entry.title, entry.licence))?;
        }
        Ok(())
    }
}
