//! The profiles of a config, as the gateway has them.

use mcpool::{
    ServerName, ToolFilter,
    config::Loaded,
    gateway::{Profile, Profiles},
};

/// The profiles of a config.
pub(super) fn profiles(loaded: &Loaded) -> Profiles {
    let profiles = loaded
        .pool()
        .profiles
        .iter()
        .flatten()
        .map(|(name, settings)| {
            let mut tools =
                ToolFilter::default().with_deny(settings.deny.iter().map(String::as_str));
            tools.allow.clone_from(&settings.allow);
            let profile = Profile::new(name.as_str())
                .with_tools(tools)
                .with_renamed(settings.rename.clone());
            let profile = match settings.tool_search {
                Some(searched) => profile.with_tool_search(searched),
                None => profile,
            };
            match &settings.servers {
                // The reader of the config has let good names through alone.
                Some(names) => {
                    profile.with_servers(names.iter().filter_map(|name| ServerName::new(name).ok()))
                }
                None => profile,
            }
        });
    profiles.collect()
}
