/// How much is logged about TLS with one peer: smtp_tls_loglevel and smtp_tls_loglevel_maps, smtpd_tls_loglevel and its maps.
#pragma once

#include <initializer_list>
#include <string>

#include "lib/table/table.h"

namespace postern {

class TlsLogLevel {
public:
    /// `parameter` is "smtp_tls_loglevel"; `usual` and `maps` are its value and that of the parameter with "_maps" behind it.
    /// Errors: config (a level that is none of 0 to 4), those of opening tables.
    static Result<TlsLogLevel> open(const std::string& parameter, const std::string& usual, const std::string& maps, const TableContext& tables);

    /// The level of the first name that a table knows, else the usual one.  A table that cannot answer, or answers nonsense, is
    /// warned about.
    int of(std::initializer_list<std::string> names);

private:
    TableList maps_;
    int usual_ = 0;
};

}  // namespace postern
