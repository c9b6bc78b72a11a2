/// pipe - hands messages to an external command, as one user and in the way that master.cf says.
///
/// Speaks to: qmgr(8) on private/NAME (lib/queue/deliver.h); the command, on its standard input.
/// If taken over: can become any user but root.
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "local/agent.h"
#include "local/command.h"
#include "local/mailbox_file.h"
#include "local/pipe_attributes.h"

constexpr postern::Rights kRights{
    .user = "root",
    .capabilities = "cap_setuid,cap_setgid",
    .chroot = "",
    .readable = postern::kEverywhere,
    .writable = postern::kEverywhere,          // the command writes where its user may
    .syscalls = postern::Syscalls::delivery,
};

/// For services with chroot=.
constexpr postern::Rights with_chroot(postern::Rights rights) {
    rights.capabilities = "cap_setuid,cap_setgid,cap_sys_chroot";
    return rights;
}

namespace {

using namespace postern;

constexpr const char* kConfigurationError = "mail system configuration error";

/// One service's constants.
struct Pipe {
    const Config& config;
    std::string name;
    local::PipeAttributes attributes;
    UserIdentity user;
    Seconds time_limit;
};

/// The lines that flags= asks for in front of the message.
std::string prefix_for(const Pipe& pipe, const local::Message& message) {
    local::CopyHeaders wanted;
    wanted.from_line = pipe.attributes.from_line;
    wanted.return_path = pipe.attributes.return_path;
    wanted.original_to = pipe.attributes.original_to;
    wanted.delivered_to = pipe.attributes.delivered_to;
    std::string prefix = local::copy_headers(message, message.recipient(0), message.recipient(0).address, wanted);
    if (pipe.attributes.eol != "\n") {
        local::BodyFilter ends;
        ends.eol = pipe.attributes.eol;
        std::string changed;
        ends.add(prefix, changed);
        return changed;
    }
    return prefix;
}

/// Recipients that cannot be served for a reason that the message itself shows.
std::optional<local::Outcome> refusal(const Pipe& pipe, const local::Message& message) {
    const bool one = message.request().recipients.size() == 1;
    const bool about_recipient = pipe.attributes.delivered_to || pipe.attributes.original_to;
    if (about_recipient && !one) {
        log_warning("pipe flags D and O require {}_destination_recipient_limit = 1", pipe.name);
        return local::failed("4.3.5", kConfigurationError);
    }
    if (pipe.attributes.delivered_to && message.was_delivered_to(message.recipient(0).address)) {
        return local::failed("5.4.6", "mail forwarding loop for " + message.recipient(0).address);
    }
    if (pipe.attributes.size_limit > 0 &&
        message.size_bytes() > static_cast<std::uint64_t>(pipe.attributes.size_limit)) {
        return local::failed("5.2.3", "message too large");
    }
    return std::nullopt;
}

Task<local::Outcome> deliver(const Pipe& pipe, local::MessagePtr message) {
    if (std::optional<local::Outcome> refused = refusal(pipe, *message)) {
        co_return std::move(*refused);
    }
    if (message->request().verify_only) {
        co_return local::sent("delivers to command: " + pipe.attributes.argv.front());
    }
    Result<std::vector<std::string>> argv =
        local::expand_pipe_argv(pipe.attributes, message->request(), pipe.config.recipient_delimiter());
    if (!argv) {
        log_warning("file {}/master.cf: service {}: {}", Config::default_directory(), pipe.name, argv.error().what);
        co_return local::failed("4.3.5", kConfigurationError);
    }
    local::Command command;
    command.argv = std::move(*argv);
    command.user = pipe.user;
    command.environment = local::exported_environment(pipe.config.export_environment());
    command.directory = pipe.attributes.directory;
    command.chroot = pipe.attributes.chroot;
    command.prefix = prefix_for(pipe, *message);
    command.filter.eol = pipe.attributes.eol;
    command.filter.quote_from = pipe.attributes.quote_from;
    command.filter.stuff_dots = pipe.attributes.stuff_dots;
    command.blank_at_end = pipe.attributes.blank_at_end;
    command.time_limit = pipe.time_limit;
    command.success_text = "delivered via " + pipe.name + " service";
    command.show_output = true;
    local::Outcome outcome = co_await local::run_command(std::move(command), std::move(message));
    outcome.action = outcome.kind == queue::kDelivered ? (pipe.attributes.final_delivery ? "delivered" : "relayed") : "";
    co_return outcome;
}

}  // namespace

int main(int argc, char** argv) {
    Service service("pipe", argc, argv);
    const Config& config = service.config();
    Result<local::PipeAttributes> attributes = local::parse_pipe_attributes(service.arguments());
    if (!attributes) {
        fatal("{}", attributes.error().what);
    }
    Result<UserIdentity> user = local::pipe_user(attributes->user);
    if (!user) {
        fatal("{}", user.error().what);
    }
    const std::optional<Seconds> limit = config.lookup_time(service.service_name() + "_time_limit");
    const Pipe pipe{config, service.service_name(), std::move(*attributes), std::move(*user),
                    limit.value_or(config.command_time_limit())};
    StatusFilter filter = local::open_status_filter("pipe_delivery_status_filter", config.pipe_delivery_status_filter(),
                                                 table_context(config));
    local::changes_user();
    service.work_in_batches();
    service.confine(pipe.attributes.chroot.empty() ? kRights : with_chroot(kRights));
    local::Agent agent(pipe.name, std::move(filter), [&pipe](local::MessagePtr message) {
        return deliver(pipe, std::move(message));
    });
    agent.obey(config);
    return service.serve([&](Connection client) { return agent.serve(std::move(client.fd)); });
}
