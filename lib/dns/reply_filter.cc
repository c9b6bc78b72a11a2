#include "lib/dns/reply_filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/dns/tlsa.h"
#include "lib/log/log.h"

namespace postern {
namespace {

constexpr std::size_t kMaxKey = 4096;

std::string value_of(DnsType type, const DnsAnswer::Record& record) {
    switch (type) {
    case DnsType::mx:
        return fmt::format("{} {}.", record.preference, record.text);
    case DnsType::srv:
        return fmt::format("{} {} {} {}.", record.preference, record.weight, record.port, record.text);
    case DnsType::ns:
    case DnsType::cname:
    case DnsType::ptr:
        return record.text + ".";
    case DnsType::tlsa: {
        const Result<TlsaRecord> tlsa = parse_tlsa(record.text);
        return tlsa ? tlsa->text() : "";
    }
    case DnsType::a:
    case DnsType::aaaa:
    case DnsType::txt:
        return record.text;
    }
    return "";
}

class FilteredDns final : public Dns {
public:
    FilteredDns(Dns& dns, TableList tables) : dns_(dns), tables_(std::move(tables)) {}

    Task<Result<DnsAnswer>> query(std::string name, DnsType type, Millis timeout) override {
        Result<DnsAnswer> answer = co_await dns_.query(name, type, timeout);
        if (tables_.empty() || !answer || answer->records.empty() || answer->from_hosts_file) {
            co_return answer;
        }
        std::vector<DnsAnswer::Record> left;
        for (DnsAnswer::Record& record : answer->records) {
            const std::string key = filter_key(name, type, *answer, record);
            const Result<bool> ignored = is_ignored(key);
            if (!ignored) {
                log_warning("{}", ignored.error().what);
                co_return Error(Errc::config, fmt::format("Error looking up name={} type={}: Invalid DNS reply filter syntax", printable(name, 255), dns_type_name(type)));
            }
            if (!*ignored) {
                left.push_back(std::move(record));
            }
        }
        answer->filtered = left.empty();
        answer->records = std::move(left);
        co_return answer;
    }

private:
    /// Errors: temporary, for a table that cannot answer; config, for an action that there is not.
    Result<bool> is_ignored(const std::string& key) {
        const Lookup found = tables_.lookup(key);
        if (!found) {
            return found.error();
        }
        if (!*found) {
            return false;
        }
        const std::string_view action = std::string_view(**found).substr(0, (*found)->find_first_of(" \t"));
        if (!equals_ignoring_case(action, "IGNORE")) {
            return Error(Errc::config, fmt::format("{}: unknown DNS filter action: \"{}\"", tables_.title(), printable(**found, 80)));
        }
        log_info("ignoring DNS RR: {}", key);
        return true;
    }

    Dns& dns_;
    TableList tables_;
};

}  // namespace

std::string filter_key(std::string_view name, DnsType type, const DnsAnswer& answer, const DnsAnswer::Record& record) {
    const std::string_view owner = answer.canonical.empty() ? name : std::string_view(answer.canonical);
    return printable(fmt::format("{}. {} IN {} {}", owner, answer.ttl, dns_type_name(type), value_of(type, record)), kMaxKey);
}

Result<std::unique_ptr<Dns>> with_reply_filter(Dns& dns, std::string_view parameter, const std::string& value, const TableContext& context) {
    Result<TableList> tables = TableList::open(parameter, value, context);
    if (!tables) {
        return tables.error();
    }
    return std::unique_ptr<Dns>(std::make_unique<FilteredDns>(dns, std::move(*tables)));
}

}  // namespace postern
