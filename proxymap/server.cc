#include "proxymap/server.h"

#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "proxymap/allowed.h"

namespace postern::proxymap {
namespace {

using Client = Channel<table_proxy::FromProxymap, table_proxy::ToProxymap>;

/// Clients come back when their connection was closed, so an idle one need not be kept.
constexpr Millis kIdle = std::chrono::seconds(100);
constexpr Millis kPatience = std::chrono::seconds(30);
/// A client waits 30 seconds: it shall hear from us which table's server does not answer.
constexpr int kServerTimeoutSeconds = 25;

}  // namespace

Server::Server(const Config& config)
    : allowed_(allowed_tables(config.proxy_read_maps())), context_(table_context(config)) {
    context_.server_timeout_seconds = kServerTimeoutSeconds;
    context_.proxymap_socket.clear();   // "proxy:" inside a table is this process itself
}

Table* Server::table_for(const table_proxy::Question& question, table_proxy::Answer& refusal) {
    if (allowed_.find(question.table) == allowed_.end()) {
        log_warning("request for unapproved table: \"{}\"", question.table);
        log_warning("to approve this table for read-only access, list proxy:{} in main.cf:proxy_read_maps", question.table);
        refusal = {table_proxy::kDenied, "table is not listed in proxy_read_maps"};
        return nullptr;
    }
    TablePtr& table = tables_[{question.table, question.fold_case, question.allow_substitution}];
    if (!table) {
        context_.fold_case = question.fold_case;
        context_.allow_substitution = question.allow_substitution;
        Result<TablePtr> opened = open_table(question.table, context_);
        if (!opened) {
            log_warning("{}", opened.error().what);
            refusal = {table_proxy::kFailed, opened.error().what};
            return nullptr;   // tried again at the next question: somebody may repair it meanwhile
        }
        table = std::move(*opened);
    }
    return table.get();
}

table_proxy::Answer Server::answer(const table_proxy::Question& question) {
    table_proxy::Answer refusal;
    Table* const table = table_for(question, refusal);
    if (!table) {
        return refusal;
    }
    Lookup found = table->lookup(question.key);
    if (!found) {
        log_warning("{}", found.error().what);
        return {table_proxy::kFailed, found.error().what};
    }
    if (!*found) {
        return {table_proxy::kAbsent, {}};
    }
    return {table_proxy::kFound, std::move(**found)};
}

Task<> Server::serve(UniqueFd socket) {
    Client client(std::move(socket), table_proxy::kMaxFrame);
    for (;;) {
        const Result<table_proxy::ToProxymap> message = co_await client.receive(kIdle);
        if (!message) {
            if (message.error().code == Errc::syntax || message.error().code == Errc::too_big) {
                log_warning("client: {}", message.error().what);
            }
            co_return;
        }
        table_proxy::Answer reply = answer(std::get<table_proxy::Question>(*message));
        const Result<void> sent = co_await client.send(std::move(reply), kPatience);
        if (!sent) {
            co_return;
        }
    }
}

}  // namespace postern::proxymap
