use super::Source;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

/// What the program finds around it: handed in, so that nothing else reads the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Variables of the environment.
    pub vars: BTreeMap<String, String>,
    /// The working folder.
    pub working_dir: PathBuf,
    /// The user's home folder.
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        Self {
            vars: env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
            working_dir: env::current_dir().unwrap_or_default(),
            home: env::home_dir(),
        }
    }

    /// A variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The user's configuration folder for this program.
    pub fn config_folder(&self) -> Option<PathBuf> {
        let xdg = self.var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let base = xdg.or_else(|| {
            let below = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".config" };
            Some(self.home.as_ref()?.join(below))
        })?;
        Some(base.join("lmx"))
    }

    /// The folder whose presets come before the built-in ones.
    pub fn presets_folder(&self) -> Option<PathBuf> {
        Some(self.config_folder()?.join("presets"))
    }

    /// The configuration file: the one that is asked for, which must exist, or the first that does.
    pub fn config_file(&self, asked: Option<&Path>) -> Option<PathBuf> {
        let asked = asked.map(Path::to_owned).or_else(|| Some(self.expand(self.var("LMX_CONFIG")?)));
        if asked.is_some() {
            return asked;
        }
        let here = self.working_dir.join("lmx.yaml");
        [Some(here), Some(self.config_folder()?.join("lmx.yaml"))].into_iter().flatten().find(|path| path.is_file())
    }

    /// The cache of the model hub, and the variable that says so, as the hub's own tools find it.
    pub fn hub_cache(&self) -> (PathBuf, Source) {
        if let Some(path) = self.var("HF_HUB_CACHE") {
            return (self.expand(path), Source::Env("HF_HUB_CACHE".to_owned()));
        }
        if let Some(path) = self.var("HF_HOME") {
            return (self.expand(path).join("hub"), Source::Env("HF_HOME".to_owned()));
        }
        (self.expand("~/.cache/huggingface/hub"), Source::Default)
    }

    /// Puts the home folder in the place of a leading `~`.
    pub fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
            _ => PathBuf::from(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            vars: vars.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            working_dir: PathBuf::from("/nowhere"),
            home: Some(PathBuf::from("/home/u")),
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_over_the_working_folder_over_the_users_folder() {
        let root = tempfile::tempdir().unwrap();
        let (work, user) = (root.path().join("work"), root.path().join("user/lmx"));
        for folder in [&work, &user] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("lmx.yaml"), "").unwrap();
        }
        let mut around = with(&[("XDG_CONFIG_HOME", user.parent().unwrap().to_str().unwrap())]);

        assert_eq!(around.config_file(None), Some(user.join("lmx.yaml")));
        around.working_dir = work.clone();
        assert_eq!(around.config_file(None), Some(work.join("lmx.yaml")));
        around.vars.insert("LMX_CONFIG".into(), "/etc/lmx.yaml".into());
        assert_eq!(around.config_file(None), Some(PathBuf::from("/etc/lmx.yaml")));
        assert_eq!(around.config_file(Some(Path::new("x.yaml"))), Some(PathBuf::from("x.yaml")));
    }

    #[test]
    fn the_hub_cache_is_where_the_hubs_own_tools_look() {
        assert_eq!(with(&[]).hub_cache().0, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(with(&[("HF_HOME", "~/hf")]).hub_cache().0, Path::new("/home/u/hf/hub"));
        let both = with(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")]).hub_cache();
        assert_eq!(both, (PathBuf::from("/cache"), Source::Env("HF_HUB_CACHE".into())));
    }

    #[test]
    fn a_leading_tilde_is_the_home_folder() {
        let around = with(&[]);

        assert_eq!(around.expand("~/m"), Path::new("/home/u/m"));
        assert_eq!(around.expand("~other/m"), Path::new("~other/m"));
        assert_eq!(around.expand("a~/m"), Path::new("a~/m"));
    }
}
