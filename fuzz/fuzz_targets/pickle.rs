//! Any bytes as the pickle inside of what torch.save wrote, with one storage beside it.
#![no_main]

#[path = "checkpoint/mod.rs"]
mod checkpoint;

libfuzzer_sys::fuzz_target!(|pickle: &[u8]| {
    let entries: [(&str, &[u8]); 2] = [("a/data.pkl", pickle), ("a/data/0", &[0; 64])];
    checkpoint::read(&stored_zip(&entries));
});

/// An archive of entries that are stored as they are. Nobody checks the sums, which are left at zero.
fn stored_zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let place = zip.len() as u32;
        let mut about = vec![0; 6]; // version, flags, method: stored
        about.extend([0; 8]); // time, date, sum
        about.extend((data.len() as u32).to_le_bytes());
        about.extend((data.len() as u32).to_le_bytes());
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0; 2]); // nothing more
        zip.extend(b"PK\x03\x04");
        zip.extend(&about);
        zip.extend(name.as_bytes());
        zip.extend(*data);
        directory.extend(b"PK\x01\x02\x00\x00");
        directory.extend(&about);
        directory.extend([0; 10]); // no comment, disk, attributes
        directory.extend(place.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let place = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00");
    zip.extend([(entries.len() as u16).to_le_bytes(); 2].as_flattened());
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(place.to_le_bytes());
    zip.extend([0; 2]);
    zip
}
