// SPDX-License-Identifier: Apache-2.0
// The words that select a command; with command_options.cc the only source that sees the command
// line library.
#include "tools/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "blockmig/base/nearest_name.h"
#include "tools/cli/command_options.h"
#include "tools/cli/help_text.h"
#include "tools/cli/raw_options.h"
#include "tools/control/exit_code.h"

namespace blockmig {
namespace {

constexpr const char* kBitmapGroup = "bitmap";
constexpr const char* kManifestGroup = "manifest";

/// All of blockmig's commands over one RawOptions; `verb` is set by the command that was parsed.
class Parser final {
 public:
  Parser() {
    app_.description(kDescription);
    app_.footer(kFooter);
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.set_version_flag("--version", std::string("blockmig ") + BLOCKMIG_VERSION);
    app_.add_option("--state-dir", raw_.state_dir,
                    "state folder of the daemon (default: $XDG_STATE_HOME/blockmig, "
                    "/var/lib/blockmig for root, ~/.local/state/blockmig)")
        ->type_name("DIR");
    add_serve(*command("serve", "offer a disk to NBD clients", Verb::kServe), raw_);
    add_migrate(*command("migrate", "move a disk to another store", Verb::kMigrate), raw_);
    add_settle(
        *command("settle", "fetch what a disk has at rest in a folder, or go back", Verb::kSettle),
        raw_);
    add_backup(
        *command("backup", "copy a disk as of one instant, whole or what changed", Verb::kBackup),
        raw_);
    add_queries();
    add_job_commands();
    add_bitmap_commands();
    add_manifest_commands();
    add_force_own();
    add_daemon_commands();
    refuse_empty_values(app_);
  }

  ParseOutcome<CommandLine> parse(std::vector<std::string> arguments);

 private:
  CLI::App* command(const std::string& name, const std::string& description, Verb verb,
                    CLI::App* parent = nullptr) {
    CLI::App* sub = (parent == nullptr ? &app_ : parent)->add_subcommand(name, description);
    commands_.insert(parent == nullptr ? name : parent->get_name() + " " + name);
    sub->callback([this, verb] { verb_ = verb; });
    return sub;
  }

  void add_queries() {
    CLI::App* status = command("status", "show the daemon, or one job or disk", Verb::kStatus);
    status->add_option("JOB", raw_.subject, "a job's id, or a disk for its latest job");
    status->add_flag("-w,--watch", raw_.watch,
                     "go on: the daemon and its clients once a second, a job until it has ended");
    add_output(*status, raw_, "table, wide, json, jsonl");
    status->footer(kStatusFooter);
    CLI::App* list = command("ls", "list disks, jobs or clients", Verb::kList);
    list->add_option("WHAT", raw_.listed, "disks, jobs or clients")->required();
    add_output(*list, raw_, "table, wide, json, jsonl");
    list->footer(kListFooter);
    command("metrics", "print what a scrape of Prometheus gets", Verb::kMetrics)
        ->footer(kMetricsFooter);
    CLI::App* verify = command("verify", "compare two stores or disks", Verb::kVerify);
    verify->add_option("A", raw_.subject, "store or disk")->required();
    verify->add_option("B", raw_.object, "store or disk")->required();
    verify->add_option("--tls-user", raw_.tls.user, "whose pre-shared key is used")
        ->type_name("NAME");
    verify->add_option("--tls-psk-file", raw_.tls.psk_file, "pre-shared keys")->type_name("FILE");
    verify
        ->add_option("--tls-certificates", raw_.tls.certificates,
                     "authority, certificate and key to prove oneself with")
        ->type_name("FOLDER");
    add_output(*verify, raw_, "table, json, jsonl");
    verify->footer(kVerifyFooter);
  }

  void add_job_commands() {
    const std::string job = "a job's id, or a disk for its running job";
    for (CLI::App* sub : {command("abort", "end a job; the disk stays on its source", Verb::kAbort),
                          command("pause", "hold a job's copying", Verb::kPause),
                          command("resume", "go on with a paused job", Verb::kResume)}) {
      sub->add_option("JOB", raw_.subject, job)->required();
      sub->footer(kJobFooter);
    }
    CLI::App* set = command("set", "change a running job, or the daemon", Verb::kSet);
    set->add_option("JOB", raw_.subject, job);
    set->add_option("SETTING", raw_.settings,
                    "bwlimit=RATE, bwlimit=none, priority=low|normal|high, max-downtime=TIME");
    set->add_flag("--daemon", raw_.for_daemon,
                  "instead of a job: bwlimit=RATE or none, of all jobs together");
    set->footer(kSetFooter);
  }

  void add_bitmap_commands() {
    CLI::App* bitmap =
        app_.add_subcommand(kBitmapGroup, "bitmaps of changed chunks: add, ls, merge, rm");
    bitmap->footer(kBitmapFooter);
    bitmap->require_subcommand(1);
    commands_.insert(kBitmapGroup);
    CLI::App* add = command("add", "start to record changes", Verb::kBitmapAdd, bitmap);
    add->add_option("DISK", raw_.subject, "disk")->required();
    add->add_option("NAME", raw_.object, "NAME or NAME:GRANULARITY")->required();
    add->add_option("--granularity", raw_.granularity, "4KiB to 1MiB (default: 64KiB)")
        ->type_name("SIZE");
    add->add_flag("--transient", raw_.transient,
                  "in memory only: gone when the daemon ends (QEMU: persistent=false)");
    add->add_flag("--disabled", raw_.disabled, "no write marks it: it is there to be merged into");
    CLI::App* merge = command("merge", "or bitmaps into another one", Verb::kBitmapMerge, bitmap);
    merge->add_option("DISK", raw_.subject, "disk")->required();
    merge->add_option("TARGET", raw_.object, "bitmap that gets the marks")->required();
    merge->add_option("SOURCE", raw_.sources, "bitmaps whose marks it gets")->required();
    CLI::App* remove = command("rm", "remove a bitmap", Verb::kBitmapRemove, bitmap);
    remove->alias("remove");
    commands_.insert(std::string(kBitmapGroup) + " remove");
    remove->add_option("DISK", raw_.subject, "disk")->required();
    remove->add_option("NAME", raw_.object, "bitmap")->required();
    CLI::App* list = command("ls", "list a disk's bitmaps", Verb::kBitmapList, bitmap);
    list->add_option("DISK", raw_.subject, "disk")->required();
    add_output(*list, raw_, "table, json, jsonl");
  }

  void add_manifest_commands() {
    CLI::App* group = app_.add_subcommand(
        kManifestGroup, "digests of an image at rest in a shared folder: make, check, show");
    group->require_subcommand(1);
    group->footer(kManifestFooter);
    commands_.insert(kManifestGroup);
    CLI::App* make = command("make", "read an image and write its manifest beside it",
                             Verb::kManifestMake, group);
    make->add_flag("--force", raw_.force,
                   "also where a disk depends on the manifest that is there");
    CLI::App* check = command("check", "read an image and compare it with its manifest",
                              Verb::kManifestCheck, group);
    check->add_flag("--adopt", raw_.adopt,
                    "where every chunk is right, accept a file that was put in the image's place");
    CLI::App* show = command("show", "what a manifest says", Verb::kManifestShow, group);
    for (CLI::App* sub : {make, check, show}) {
      sub->add_option("IMAGE", raw_.subject, "path of the image")->required();
      add_output(*sub, raw_, "table, json, jsonl");
    }
  }

  void add_force_own() {
    CLI::App* own =
        command("force-own", "take an image whose owner is gone for good", Verb::kForceOwn);
    own->add_option("IMAGE", raw_.subject, "path of the image")->required();
    own->add_option("--epoch", raw_.proof_epoch, "as the refusal has named it");
    own->add_option("--owner", raw_.proof_owner, "as the refusal has named it")->type_name("UUID");
    own->footer(kForceOwnFooter);
  }

  void add_daemon_commands() {
    CLI::App* disconnect = command("disconnect", "cut one client", Verb::kDisconnect);
    disconnect->add_option("CLIENT", raw_.subject, "its number in 'blockmig ls clients'")
        ->required();
    disconnect->footer(kDisconnectFooter);
    CLI::App* detach = command("detach", "stop offering a disk", Verb::kDetach);
    detach->add_option("DISK", raw_.subject, "disk")->required();
    detach->add_flag("--forget", raw_.forget, "also forget where its content lives");
    detach->footer(kDetachFooter);
    command("stop", "end the daemon in order", Verb::kStop)->footer(kStopFooter);
    command("version", "print the version", Verb::kVersion)->footer("");
    CLI::App* help = command("help", "more about a command, or about limits", Verb::kHelp);
    help->add_option("TOPIC", raw_.subject, "a command, or limits")->required();
    help->footer(kTopicFooter);
  }

  /// What is wrong where a command should stand, if anything: the library would only say that one
  /// is missing.
  std::string command_complaint(const std::vector<std::string>& arguments) const {
    std::string group;  // "bitmap ", once that is what the next word belongs to
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const std::string& argument = arguments[i];
      if (argument == "--state-dir") {
        ++i;  // and its value
      } else if (argument.starts_with('-')) {
        const bool ours = argument.starts_with("--state-dir=") || argument == "--version" ||
                          argument == "-h" || argument == "--help";
        if (!ours) return "'" + argument + "' before the command: options of a command follow it";
      } else if (!commands_.contains(group + argument)) {
        return "unknown command '" + group + argument + "'" + suggestion(group, argument);
      } else if ((argument == kBitmapGroup || argument == kManifestGroup) && group.empty()) {
        group = argument + " ";
      } else {
        return "";
      }
    }
    return "";
  }

  /// " (did you mean …?)": what begins like it, else what is spelt like it.
  std::string suggestion(const std::string& group, const std::string& word) const {
    std::vector<std::string> names;
    std::vector<std::string> longer;
    for (const std::string& command : commands_) {
      if (!command.starts_with(group)) continue;
      const std::string name = command.substr(group.size());
      names.push_back(name);
      if (name.starts_with(word)) longer.push_back(name);
    }
    return did_you_mean(word, longer.empty() ? names : longer);
  }

  /// "help migrate" as "migrate --help".
  std::vector<std::string> without_help(std::vector<std::string> arguments) const {
    if (arguments.empty() || arguments[0] != "help") return arguments;
    std::string topic;
    for (std::size_t i = 1; i < arguments.size(); ++i) {
      topic += (i == 1 ? "" : " ") + arguments[i];
    }
    if (!topic.empty() && !commands_.contains(topic)) return arguments;
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
    return arguments;
  }

  CLI::App app_{"", "blockmig"};
  std::set<std::string> commands_;  ///< "status", "bitmap add"
  RawOptions raw_;
  Verb verb_ = Verb::kVersion;
};

template <typename Command>
ParseOutcome<Command> usage_error(const CLI::App& app, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::string help = app.get_name();
  for (auto parsed = app.get_subcommands(); !parsed.empty();) {
    help += " " + parsed.front()->get_name();
    parsed = parsed.front()->get_subcommands();
  }
  ParseOutcome<Command> outcome;
  outcome.exit_code = static_cast<int>(ExitCode::kUsage);
  outcome.text = app.get_name() + ": " + text + ": see '" + help + " --help'";
  return outcome;
}

/// The library throws to end a parse; its own exit codes are not ours (they are above 100).
template <typename Command>
ParseOutcome<Command> outcome_of(const CLI::App& app, const CLI::Error& error) {
  if (error.get_exit_code() != 0) return usage_error<Command>(app, error.what());
  ParseOutcome<Command> outcome;
  outcome.text = dynamic_cast<const CLI::CallForVersion*>(&error) != nullptr
                     ? std::string(error.what()) + "\n"
                     : app.help("", dynamic_cast<const CLI::CallForAllHelp*>(&error) != nullptr
                                        ? CLI::AppFormatMode::All
                                        : CLI::AppFormatMode::Normal);
  return outcome;
}

ParseOutcome<CommandLine> Parser::parse(std::vector<std::string> arguments) {
  arguments = without_help(std::move(arguments));
  const std::string complaint = command_complaint(arguments);
  if (!complaint.empty()) return usage_error<CommandLine>(app_, complaint);
  // The library takes them from the back.
  std::reverse(arguments.begin(), arguments.end());
  try {
    app_.parse(arguments);
  } catch (const CLI::Error& error) {
    return outcome_of<CommandLine>(app_, error);
  }
  const Result<CommandLine> command = convert(verb_, raw_);
  if (!command) return usage_error<CommandLine>(app_, command.error().message());
  ParseOutcome<CommandLine> outcome;
  outcome.command = *command;
  return outcome;
}

}  // namespace

ParseOutcome<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  return Parser().parse(arguments);
}

ParseOutcome<DaemonCommandLine> parse_daemon_command_line(
    const std::vector<std::string>& arguments) {
  RawOptions raw;
  CLI::App app{"The daemon of blockmig: serves disks by NBD and moves them.", "blockmigd"};
  app.footer(
      "\nDisks are added by 'blockmig serve DISK --source STORE' with the same --state-dir.\n"
      "SIGTERM and SIGINT end it in order; another one, a second or more later, at once. SIGHUP "
      "does\n"
      "nothing.");
  app.set_version_flag("--version", std::string("blockmigd ") + BLOCKMIG_VERSION);
  app.add_option("--state-dir", raw.state_dir,
                 "state folder (default: $XDG_STATE_HOME/blockmig, /var/lib/blockmig for root, "
                 "~/.local/state/blockmig)")
      ->type_name("DIR");
  app.add_option("--config", raw.config,
                 "read options from this TOML file; its keys are the names of the options")
      ->type_name("FILE");
  app.add_flag("--limits", raw.show_limits, "print the limits that would be in force, and end");
  add_process_options(app, raw, true);
  refuse_empty_values(app);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::Error& error) {
    return outcome_of<DaemonCommandLine>(app, error);
  }
  const Result<DaemonCommandLine> command = convert_daemon(raw);
  if (!command) return usage_error<DaemonCommandLine>(app, command.error().message());
  ParseOutcome<DaemonCommandLine> outcome;
  outcome.command = *command;
  return outcome;
}

}  // namespace blockmig
