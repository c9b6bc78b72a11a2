// MTA-STS: the TXT record and the policy file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/mta_sts/policy.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const std::optional<std::string> id = parse_sts_record(text);
    if (id && (id->empty() || id->size() > 32 || find_sts_id({text}) != id)) {
        std::abort();
    }
    const Result<StsPolicy> policy = parse_sts_policy(text);
    if (!policy) {
        return 0;
    }
    if (policy->max_age > kMaxStsAge || policy->mx.size() > kMaxStsPatterns || (policy->mx.empty() && policy->mode != StsMode::none)) {
        std::abort();
    }
    std::string again;   // what was understood says the same when it is read again
    for (const std::string& line : policy->lines) {
        again += line + "\r\n";
    }
    const Result<StsPolicy> second = parse_sts_policy(again);
    if (!second || second->mx != policy->mx || second->mode != policy->mode || second->max_age != policy->max_age) {
        std::abort();
    }
    for (const std::string& pattern : policy->mx) {
        (void)sts_pattern_matches(pattern, text);
    }
    return 0;
}
