#include "lib/dns/search.h"

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"

namespace postern {
namespace {

class SearchingDns final : public Dns {
public:
    SearchingDns(Dns& dns, const SearchRules& rules, ResolvConf where) : dns_(dns), rules_(rules), where_(std::move(where)) {}

    Task<Result<DnsAnswer>> query(std::string name, DnsType type, Millis timeout) override {
        std::optional<Result<DnsAnswer>> best, as_it_is;
        const std::vector<std::string> names = candidates(name, rules_, where_);
        for (const std::string& one : names) {
            Result<DnsAnswer> answer = co_await dns_.query(one, type, timeout);
            const bool completed = one != name;
            if (answer && completed && answer->canonical.empty()) {
                answer->canonical = one;
            }
            if ((answer && (!answer->records.empty() || answer->filtered)) || (!answer && answer.error().code == Errc::timeout)) {
                co_return answer;
            }
            const bool exists = answer && !answer->nxdomain;
            if (exists || (!answer && !best)) {
                best = answer;   // it exists, but has no such record; or nothing is known
            }
            if (!completed) {
                as_it_is = std::move(answer);
            }
        }
        co_return best ? std::move(*best) : std::move(*as_it_is);
    }

private:
    Dns& dns_;
    SearchRules rules_;
    ResolvConf where_;
};

}  // namespace

Result<SearchRules> SearchRules::parse(std::string_view options) {
    SearchRules out;
    for (const std::string& word : split(options, ", \t\r\n")) {
        if (word == "res_defnames") {
            out.defnames = true;
        } else if (word == "res_dnsrch") {
            out.dnsrch = true;
        } else {
            return Error(Errc::config, "\"" + printable(word, 80) + "\" is not one of res_defnames, res_dnsrch");
        }
    }
    return out;
}

std::vector<std::string> candidates(const std::string& name, const SearchRules& rules, const ResolvConf& where) {
    const auto dots = static_cast<std::size_t>(std::count(name.begin(), name.end(), '.'));
    const bool absolute = !name.empty() && name.back() == '.';
    const bool completes = !absolute && !name.empty() && (dots == 0 ? rules.defnames : rules.dnsrch);
    std::vector<std::string> out;
    if (completes) {
        const std::size_t count = rules.dnsrch ? where.search.size() : std::min<std::size_t>(1, where.search.size());
        for (std::size_t i = 0; i < count; ++i) {
            out.push_back(where.search[i] == "." ? name : name + "." + where.search[i]);
        }
    }
    out.erase(std::remove(out.begin(), out.end(), name), out.end());
    out.insert(dots >= where.ndots ? out.begin() : out.end(), name);
    return out;
}

std::unique_ptr<Dns> with_search(Dns& dns, const SearchRules& rules, ResolvConf where) {
    return std::make_unique<SearchingDns>(dns, rules, std::move(where));
}

}  // namespace postern
