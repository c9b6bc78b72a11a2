/// Answers table lookups for programs that cannot, or need not, open the tables themselves.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/table/proxy_messages.h"
#include "lib/table/table.h"

namespace postern::proxymap {

class Server {
public:
    explicit Server(const Config& config);

    /// One client: question, answer, until it goes, is silent for long, or says what cannot be understood.
    Task<> serve(UniqueFd client);

    /// Opens the table at its first use.  A table that is not listed in proxy_read_maps is never opened.
    table_proxy::Answer answer(const table_proxy::Question& question);

private:
    Table* table_for(const table_proxy::Question& question, table_proxy::Answer& refusal);

    std::set<std::string, std::less<>> allowed_;
    TableContext context_;
    std::map<std::tuple<std::string, bool, bool>, TablePtr> tables_;   ///< by name, fold_case, allow_substitution
};

}  // namespace postern::proxymap
