use std::{collections::HashMap, io::Write};

use clap::FromArgMatches as _;
use lockstep_shaders::device::Choice as GpuChoice;

use super::*;

fn env_of(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<Result<String, String>> + use<> {
    let map: HashMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |name| map.get(name).cloned().map(Ok)
}

fn flags_of(args: &[&str]) -> Flags {
    let command = <Flags as clap::Args>::augment_args(Command::new("serve").no_binary_name(true));
    Flags::from_arg_matches(&command.try_get_matches_from(args).unwrap()).unwrap()
}

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(args: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<Settings, Error> {
    let mut flags = flags_of(args);
    let file = file.map(file_of);
    flags.config = file.as_ref().map(|file| file.path().to_owned());
    Settings::load_from(&flags, &env_of(env))
}

#[test]
fn every_default_is_valid_and_the_reference_s_where_it_has_one() {
    let settings = load(&[], &[], None).unwrap();
    assert_eq!(settings.listen, Listen("0.0.0.0:6363".parse().unwrap()));
    let unit = settings.unit();
    assert_eq!(unit.graphql_url.as_str(), "https://arweave.net/graphql");
    assert_eq!(unit.arweave_url.as_str(), "https://arweave.net/");
    assert_eq!(unit.block_graphql_urls.len(), 2);
    assert_eq!(unit.memory_max_limit, 1 << 30);
    assert_eq!(unit.compute_max_limit, 9_000_000_000_000);
    assert_eq!(unit.dry_run_queue_max, 3000);
    assert_eq!(unit.hydration_nonce_limit, 200);
    assert_eq!(unit.page_size, 1000);
    assert_eq!(unit.process_memory_ttl.as_secs(), 86_400);
    assert_eq!(unit.formats, ModuleFormat::ALL);
    assert!(unit.evaluation_cache && !unit.memory_reset);
    assert_eq!((unit.gpu.choice, unit.gpu.wait.as_millis()), (GpuChoice::Auto, 2));
    assert_eq!(settings.rate_limit_max_requests, 6);
    assert_eq!(settings.busy_threshold.as_millis(), 0);
}

#[test]
fn a_gpu_is_chosen_by_a_word_or_by_a_part_of_its_name() {
    let chosen = |text: &str| load(&["--gpu", text], &[], None).map(|settings| settings.gpu);
    assert_eq!(chosen("off").unwrap(), GpuChoice::Off);
    assert_eq!(chosen("required").unwrap(), GpuChoice::Required);
    assert_eq!(chosen(" RTX 50 ").unwrap(), GpuChoice::Named("RTX 50".to_owned()));
    assert!(chosen("").unwrap_err().to_string().contains("`required`, or a part of an adapter's name"));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = Some("load_messages_page_size = 3\n");
    let env = [("LOAD_MESSAGES_PAGE_SIZE", "2")];
    let size = |settings: Result<Settings, Error>| settings.unwrap().load_messages_page_size.get();
    assert_eq!(size(load(&["--load-messages-page-size", "1"], &env, file)), 1);
    assert_eq!(size(load(&[], &env, file)), 2);
    assert_eq!(size(load(&[], &[], file)), 3);
    assert_eq!(size(load(&[], &[], None)), 1000);
}

#[test]
fn every_setting_can_be_given_by_flag_environment_and_file() {
    for setting in DECLARED {
        let sample = match setting.name {
            "wallet" => "{}",
            _ if setting.default.is_empty() => "",
            _ => setting.default,
        };
        let flag = format!("--{}={sample}", setting.flag());
        load(&[&flag], &[], None).unwrap_or_else(|error| panic!("{error}"));
        for name in setting.env.iter().filter(|name| **name != "PORT") {
            load(&[], &[(name, sample)], None).unwrap_or_else(|error| panic!("{error}"));
        }
        let toml = toml::Value::String(sample.to_owned()).to_string();
        load(&[], &[], Some(&format!("{} = {toml}\n", setting.name))).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn names_are_unique_and_every_setting_is_explained() {
    let mut names = std::collections::HashSet::new();
    for setting in DECLARED {
        assert!(names.insert(setting.name), "{}", setting.name);
        assert!(setting.env.iter().all(|name| names.insert(name)), "{}", setting.name);
        assert!(setting.text().len() > 10, "{}", setting.name);
    }
    assert!(RETIRED.iter().all(|retired| names.insert(retired.name)));
}

#[test]
fn bad_values_name_the_setting_where_it_came_from_and_what_was_expected() {
    let message = |settings: Result<Settings, Error>| settings.unwrap_err().to_string();
    assert_eq!(
        message(load(&["--busy-threshold", "soon"], &[], None)),
        "setting `busy_threshold` from flag --busy-threshold: expected milliseconds, or a whole number with `ms`, `s`, \
         `m` or `h`, found `soon`"
    );
    assert_eq!(
        message(load(&[], &[("RATE_LIMIT_MAX_REQUESTS", "-6")], None)),
        "setting `rate_limit_max_requests` from environment variable RATE_LIMIT_MAX_REQUESTS: expected a whole number \
         below 4,294,967,296, found `-6`"
    );
    let from_file = message(load(&[], &[], Some("unit_mode = 3\n")));
    assert!(from_file.starts_with("setting `unit_mode` from configuration file /"), "{from_file}");
    assert!(from_file.ends_with(": expected `cu` or `ru`, found `3`"), "{from_file}");
}

#[test]
fn a_bad_wallet_in_the_file_is_not_printed() {
    let message = load(&[], &[], Some("wallet = { d = \"hunter2\" }\n")).unwrap_err().to_string();
    assert!(message.contains("`wallet`") && !message.contains("hunter2"), "{message}");
}

#[test]
fn unknown_keys_of_the_file_are_errors_that_guess_what_was_meant() {
    let message = |text| load(&[], &[], Some(text)).unwrap_err().to_string();
    assert!(message("page_size = 5\n").ends_with("unknown key `page_size`"));
    assert!(message("su-url = \"http://x\"\n").ends_with("unknown key `su-url`; did you mean `su_url`?"));
    assert!(message("PORT = 5\n").ends_with("unknown key `PORT`; did you mean `listen`?"));
}

#[test]
fn a_file_that_cannot_be_read_or_is_not_toml_is_an_error_that_names_it() {
    let flags = Flags { config: Some("/nonexistent/lockstep.toml".into()), ..Flags::default() };
    let missing = Settings::load_from(&flags, &env_of(&[])).unwrap_err().to_string();
    assert!(missing.starts_with("configuration file /nonexistent/lockstep.toml: No such file"), "{missing}");
    let broken = load(&[], &[], Some("data = \"x\"\nwallet = hunter2\n")).unwrap_err().to_string();
    assert!(broken.contains(": not TOML, line 2: ") && !broken.contains("hunter2"), "{broken}");
}

#[test]
fn the_environment_can_name_the_file() {
    let file = file_of("su_url = \"http://127.0.0.1:9000\"\n");
    let path = file.path().to_str().unwrap().to_owned();
    let settings = Settings::load_from(&Flags::default(), &env_of(&[(CONFIG_ENV, &path)])).unwrap();
    assert_eq!(settings.su_url.unwrap().as_str(), "http://127.0.0.1:9000/");
}

#[test]
fn file_values_may_be_native_toml() {
    let text = "rate_limit_max_requests = 9\nenable_memory_reset = true\nallow_owners = [\"a\", \"b\"]\nlisten = 80\n";
    let settings = load(&[], &[], Some(text)).unwrap();
    assert_eq!(settings.rate_limit_max_requests, 9);
    assert!(settings.enable_memory_reset);
    assert_eq!(settings.allow_owners, ["a", "b"]);
    assert_eq!(settings.listen.0.port(), 80);
}

#[test]
fn port_is_where_to_listen_unless_listen_is_set() {
    let port = |env: &[(&str, &str)]| load(&[], env, None).unwrap().listen.0.to_string();
    assert_eq!(port(&[("PORT", "7000")]), "0.0.0.0:7000");
    assert_eq!(port(&[("PORT", "7000"), ("LOCKSTEP_LISTEN", "127.0.0.1:1")]), "127.0.0.1:1");
    assert_eq!(port(&[("PORT", "")]), "0.0.0.0:6363");
}

#[test]
fn empty_means_none_where_that_is_a_value_and_not_set_where_it_is_not() {
    let settings = load(&[], &[("SU_ROUTER_URL", ""), ("GATEWAY_URL", ""), ("ALLOW_PROCESSES", "")], None).unwrap();
    assert_eq!(settings.su_router_url, None);
    assert_eq!(settings.gateway_url.as_str(), "https://arweave.net/");
    assert!(settings.allow_processes.is_empty());
}

#[test]
fn environment_switches_follow_the_reference_and_surprises_are_remarked_on() {
    let env = env_of(&[("DISABLE_PROCESS_EVALUATION_CACHE", "false"), ("DB_URL", "ao-cache"), ("UPLOADER_URL", "")]);
    let settings = Settings::load_from(&Flags::default(), &env).unwrap();
    assert!(settings.disable_process_evaluation_cache);
    let remarks = remarks(&env);
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[0].starts_with("DB_URL has no effect"));
    assert!(remarks[1].starts_with("DISABLE_PROCESS_EVALUATION_CACHE=false switches it on"));
}

#[test]
fn switches_need_no_value_on_the_command_line() {
    let on = load(&["--enable-memory-reset"], &[], None).unwrap();
    assert!(on.enable_memory_reset);
    let off = load(&["--enable-metrics-endpoint=false"], &[("ENABLE_METRICS_ENDPOINT", "1")], None).unwrap();
    assert!(!off.enable_metrics_endpoint);
}

#[test]
fn urls_derive_from_the_gateway_and_stay_off_the_public_network_when_it_is_private() {
    let unit = load(&["--gateway-url", "http://127.0.0.1:4000/gw/"], &[], None).unwrap().unit();
    assert_eq!(unit.graphql_url.as_str(), "http://127.0.0.1:4000/gw/graphql");
    assert_eq!(unit.arweave_url.as_str(), "http://127.0.0.1:4000/gw/");
    assert_eq!(unit.block_graphql_urls, [unit.graphql_url]);
    let unit = load(&[], &[("GRAPHQL_URLS", "http://a/g, http://b/g")], None).unwrap().unit();
    assert_eq!(unit.block_graphql_urls.len(), 2);
    assert_eq!(unit.graphql_url.as_str(), "https://arweave.net/graphql");
}

#[test]
fn threads_are_divided_by_the_reference_s_rule() {
    for (workers, percent, expected) in
        [(1, 70, (1, 1)), (2, 70, (1, 1)), (10, 70, (7, 3)), (16, 70, (12, 4)), (4, 100, (3, 1)), (8, 10, (1, 7))]
    {
        let settings = Settings::with(&[
            ("wasm_evaluation_max_workers", &workers.to_string()),
            ("wasm_evaluation_primary_workers_percentage", &percent.to_string()),
        ])
        .unwrap();
        assert_eq!(settings.threads(), expected, "{workers} threads, {percent} %");
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(load(&[], &[], None).unwrap().threads(), (cores, (cores * 30 / 100).max(1)));
}

#[test]
fn a_read_unit_keeps_no_results() {
    assert!(!load(&[], &[("UNIT_MODE", "ru")], None).unwrap().unit().evaluation_cache);
}

#[test]
fn help_shows_every_setting_with_its_environment_and_default() {
    let help = <Flags as clap::Args>::augment_args(Command::new("serve")).render_long_help().to_string();
    for setting in DECLARED {
        assert!(help.contains(&format!("--{}", setting.flag())), "{}", setting.name);
        assert!(setting.env.iter().all(|name| help.contains(name)), "{}", setting.name);
    }
}
