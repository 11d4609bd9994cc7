//! Configuration: where values come from, and what the rooms below are told.
//!
//! A flag wins over the environment, the environment over the configuration file, the file over the default.

mod declared;
mod retired;
mod table;
mod value;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use lockstep_cu::{UnitSettings, verify::GpuSettings};
use lockstep_jit::ModuleFormat;
use url::Url;

pub use declared::{DECLARED, Declaration, Settings};
pub use retired::{RETIRED, Retired};
pub use table::{TABLE_BEGIN, TABLE_END, markdown_table, with_table};
pub use value::{Bytes, Listen, LogFilter, LogFormat, Percent, Secret, UnitMode, Value};

/// Names the configuration file where no `--config` does.
pub const CONFIG_ENV: &str = "LOCKSTEP_CONFIG";

/// The second place block times are asked for, as in the reference, when the gateway is the public one.
const BLOCKS_FALLBACK: &str = "https://arweave-search.goldsky.com/graphql";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A value that is not what the setting takes.
    #[error("setting `{name}` from {origin}: expected {expected}, found {found}")]
    Value {
        /// The setting's key.
        name: &'static str,
        /// Flag, environment variable, or file and key.
        origin: String,
        /// What it takes.
        expected: String,
        /// What it got, quoted; for secrets only that it is one.
        found: String,
    },
    /// The configuration file cannot be read or is not TOML.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's or the parser's words.
        reason: String,
    },
    /// A key that is no setting.
    #[error("configuration file {}: unknown key `{key}`{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// `; did you mean ...`, or nothing.
        hint: String,
    },
}

/// What the command line said: settings by key, and the configuration file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    config: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
}

/// Where values are looked for, strongest first.
pub(crate) struct Sources<'a> {
    flags: &'a Flags,
    env: &'a dyn Fn(&str) -> Option<Result<String, String>>,
    file: Option<(PathBuf, toml::Table)>,
}

impl Settings {
    /// Reads the configuration of this process: `flags`, its environment, and the file either names.
    /// The second value holds remarks for the log: settings that will surprise whoever set them.
    pub fn load(flags: &Flags) -> Result<(Self, Vec<String>), Error> {
        let env = |name: &str| {
            std::env::var_os(name)
                .map(|text| text.into_string().map_err(|bytes| format!("bytes that are not UTF-8 ({bytes:?})")))
        };
        let settings = Self::load_from(flags, &env)?;
        Ok((settings, remarks(&env)))
    }

    /// The defaults, with `overrides` (key, text) on top. Neither environment nor file is read.
    pub fn with(overrides: &[(&'static str, &str)]) -> Result<Self, Error> {
        let values = overrides.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Self::load_from(&Flags { config: None, values }, &|_| None)
    }

    fn load_from(flags: &Flags, env: &dyn Fn(&str) -> Option<Result<String, String>>) -> Result<Self, Error> {
        let path = match &flags.config {
            Some(path) => Some(path.clone()),
            None => match env(CONFIG_ENV) {
                Some(Ok(path)) if !path.is_empty() => Some(path.into()),
                Some(Err(found)) => {
                    return Err(Error::Value {
                        name: "config",
                        origin: format!("environment variable {CONFIG_ENV}"),
                        expected: "a path".to_owned(),
                        found,
                    });
                }
                _ => None,
            },
        };
        let file = path.map(|path| read_file(&path).map(|table| (path, table))).transpose()?;
        Self::read(&Sources { flags, env, file })
    }

    /// What the ao room is told.
    pub fn unit(&self) -> UnitSettings {
        let graphql_url = self.graphql_url.clone().unwrap_or_else(|| below(&self.gateway_url, "graphql"));
        let mut block_graphql_urls = self.graphql_urls.clone();
        if block_graphql_urls.is_empty() {
            block_graphql_urls.push(graphql_url.clone());
            if graphql_url.host_str() == Some("arweave.net") {
                block_graphql_urls.push(Url::parse(BLOCKS_FALLBACK).expect("the constant is a URL"));
            }
        }
        let formats = match self.process_wasm_supported_formats.as_slice() {
            [] => ModuleFormat::ALL.to_vec(),
            some => some.to_vec(),
        };
        let (evaluation_threads, dry_run_threads) = self.threads();
        UnitSettings {
            su_url: self.su_url.clone(),
            su_router_url: self.su_router_url.clone(),
            arweave_url: self.arweave_url.clone().unwrap_or_else(|| self.gateway_url.clone()),
            graphql_url,
            block_graphql_urls,
            data_dir: self.data.clone(),
            guest_env: self.guest_env,
            verify: self.verify,
            gpu: GpuSettings {
                choice: self.gpu.clone(),
                wait: self.verify_wait,
                cache: Some(self.data.join("kernels")),
            },
            engine: self.engine,
            lane_wait: self.lane_wait,
            formats,
            extensions: self.process_wasm_supported_extensions.clone(),
            memory_max_limit: self.process_wasm_memory_max_limit.0,
            compute_max_limit: self.process_wasm_compute_max_limit,
            evaluation_threads,
            dry_run_threads,
            dry_run_queue_max: self.wasm_evaluation_workers_dry_run_max_queue,
            process_memory_budget: self.process_memory_cache_max_size.0,
            process_memory_ttl: self.process_memory_cache_ttl,
            evaluation_time_limit: self.evaluation_time_limit,
            hydration_nonce_limit: self.hydration_mode_nonce_limit,
            page_size: self.load_messages_page_size.get(),
            dry_run_default_max_age: self.dry_run_default_max_process_age,
            dry_run_process_cache_ttl: self.dry_run_process_cache_ttl,
            dry_run_result_max_age: self.dry_run_result_max_age,
            allow_owners: self.allow_owners.clone(),
            upstream_json_max_bytes: self.upstream_json_max.0,
            upstream_data_max_bytes: self.upstream_data_max.0,
            upstream_timeout: self.upstream_timeout,
            evaluation_cache: !self.disable_process_evaluation_cache && self.unit_mode == UnitMode::Cu,
            memory_reset: self.enable_memory_reset,
        }
    }

    /// Threads for messages and for dry runs: all cores for messages; or by the reference's rule, if a number is set.
    fn threads(&self) -> (usize, usize) {
        let percent = usize::from(self.wasm_evaluation_primary_workers_percentage.0);
        let Some(all) = self.wasm_evaluation_max_workers else {
            let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            return (cores, (cores * (100 - percent) / 100).max(1));
        };
        let all = all.get();
        let messages = all.saturating_sub(1).max(1).min((all * percent).div_ceil(100));
        let dry_runs = (all * (100 - percent) / 100).max(1);
        (messages, dry_runs)
    }
}

/// `base` with `path` under it, whether or not `base` ends with a slash.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn read_file(path: &Path) -> Result<toml::Table, Error> {
    let fail = |reason: String| Error::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        // The parser's own rendering shows the line, which may hold a wallet.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        fail(format!("not TOML, line {}: {}", before.matches('\n').count() + 1, error.message()))
    })?;
    if let Some(key) = table.keys().find(|key| DECLARED.iter().all(|setting| setting.name != key.as_str())) {
        let meant = DECLARED.iter().find(|setting| {
            let key = key.replace('-', "_");
            setting.name == key.to_lowercase() || setting.env.iter().any(|name| name.eq_ignore_ascii_case(&key))
        });
        let hint = meant.map_or(String::new(), |setting| format!("; did you mean `{}`?", setting.name));
        return Err(Error::UnknownKey { path: path.to_owned(), key: key.clone(), hint });
    }
    Ok(table)
}

/// What a value of the file would be as text; `None` for tables, dates and lists of lists.
fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(is) => Some(is.to_string()),
        toml::Value::Array(entries) => {
            let entries: Option<Vec<_>> = entries
                .iter()
                .map(|entry| match entry {
                    toml::Value::String(text) if !text.contains(',') => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            entries.map(|entries| entries.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

impl Sources<'_> {
    /// The value of one setting, from the strongest source that has it.
    pub(crate) fn value<T: Value>(
        &self,
        name: &'static str,
        env_names: &[&str],
        default: &'static str,
    ) -> Result<T, Error> {
        let wrong = |origin: String, found: &str| Error::Value {
            name,
            origin,
            expected: T::expected(),
            found: if T::IS_SECRET { "something else (not shown)".to_owned() } else { format!("`{found}`") },
        };
        if let Some(text) = self.flags.values.get(name) {
            return T::parse(text).ok_or_else(|| wrong(format!("flag --{}", name.replace('_', "-")), text));
        }
        for env_name in env_names {
            let origin = || format!("environment variable {env_name}");
            match (self.env)(env_name) {
                None => {}
                Some(Err(found)) => return Err(wrong(origin(), &found)),
                Some(Ok(text)) if text.is_empty() && !T::EMPTY_IS_A_VALUE => {}
                Some(Ok(text)) => return T::parse_env(&text).ok_or_else(|| wrong(origin(), &text)),
            }
        }
        if let Some((path, table)) = &self.file
            && let Some(value) = table.get(name)
        {
            return toml_text(value)
                .and_then(|text| T::parse(&text))
                .ok_or_else(|| wrong(format!("configuration file {}", path.display()), &value.to_string()));
        }
        T::parse(default).ok_or_else(|| wrong("its default".to_owned(), default))
    }
}

/// Settings in the environment that do not do what their text suggests.
fn remarks(env: &dyn Fn(&str) -> Option<Result<String, String>>) -> Vec<String> {
    let is_set = |name: &str| matches!(env(name), Some(Ok(text)) if !text.is_empty());
    let retired = RETIRED
        .iter()
        .filter(|retired| is_set(retired.name))
        .map(|retired| format!("{} has no effect: {}", retired.name, retired.why));
    let switched = DECLARED.iter().filter(|setting| setting.is_switch).flat_map(|setting| setting.env).filter_map(
        |name| match env(name) {
            Some(Ok(text)) if matches!(text.as_str(), "false" | "0" | "no" | "off") => Some(format!(
                "{name}={text} switches it on: as in the reference any text does; leave it empty to switch it off"
            )),
            _ => None,
        },
    );
    retired.chain(switched).collect()
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        for setting in DECLARED {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                self.values.insert(setting.name, text.clone());
            }
        }
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("Configuration file (TOML) [env: {CONFIG_ENV}]"));
        DECLARED.iter().fold(command.arg(config), |command, setting| command.arg(flag(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The command-line flag of a setting. Defaults and environment are only mentioned: reading them is [`Sources`]' work,
/// which can say where a bad value came from.
fn flag(setting: &Declaration) -> Arg {
    let mut help = setting.text();
    if !setting.env.is_empty() {
        help += &format!(" [env: {}]", setting.env.join(", "));
    }
    if !setting.default.is_empty() {
        help += &format!(" [default: {}]", setting.default);
    }
    let arg = Arg::new(setting.name).long(setting.flag()).action(ArgAction::Set).help(help).help_heading(setting.group);
    if setting.is_switch {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
    } else {
        arg.value_name("VALUE").allow_hyphen_values(true)
    }
}

#[cfg(test)]
mod tests;
