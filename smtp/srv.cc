#include "smtp/srv.h"

#include <algorithm>

namespace postern::smtp {
namespace {

using Place = std::vector<DnsAnswer::Record>::iterator;

/// Those with weight 0 come first, so that they have a very small chance.
void order_by_weight(Place begin, Place end, std::mt19937& random) {
    std::shuffle(begin, end, random);
    std::stable_partition(begin, end, [](const DnsAnswer::Record& one) { return one.weight == 0; });
    std::uint32_t sum = 0;
    for (Place one = begin; one != end; ++one) {
        sum += one->weight;
    }
    for (; begin != end; ++begin) {
        const std::uint32_t number = std::uniform_int_distribution<std::uint32_t>(0, sum)(random);
        std::uint32_t running = 0;
        const Place chosen = std::find_if(begin, end, [&](const DnsAnswer::Record& one) {
            running += one.weight;
            return running >= number;
        });
        sum -= chosen->weight;
        std::rotate(begin, chosen, chosen + 1);
    }
}

}  // namespace

std::string srv_name(const std::string& service, const std::string& domain) {
    return "_" + service + "._tcp." + domain;
}

void order_srv(std::vector<DnsAnswer::Record>& records, std::mt19937& random) {
    std::stable_sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.preference < b.preference; });
    for (Place begin = records.begin(); begin != records.end();) {
        const Place end = std::find_if(begin, records.end(), [&](const DnsAnswer::Record& one) { return one.preference != begin->preference; });
        order_by_weight(begin, end, random);
        begin = end;
    }
}

}  // namespace postern::smtp
