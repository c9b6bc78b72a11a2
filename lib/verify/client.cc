#include "lib/verify/client.h"

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"

namespace postern::verify {
namespace {

using VerifyChannel = Channel<ToVerify, FromVerify>;

constexpr Millis kConnectPatience = std::chrono::seconds(30);
constexpr Millis kAnswerPatience = std::chrono::seconds(100);
constexpr std::uint64_t kEpochBase = 31;

/// As Postfix writes the time in a probe's sender, without vowels that make words.
std::string epoch_text(std::uint64_t epoch) {
    constexpr std::string_view kDigits = "0123456789BCDFGHJKLMNPQRSTVWXYZ";
    std::string out;
    do {
        out.insert(out.begin(), kDigits[epoch % kEpochBase]);
        epoch /= kEpochBase;
    } while (epoch != 0);
    return out;
}

std::string sender_in_epoch(const Config& config, std::int64_t epoch) {
    const std::string& setting = config.address_verify_sender();
    if (setting.empty() || setting == "<>") {
        return "";
    }
    const std::size_t at = setting.rfind('@');
    std::string local = setting.substr(0, at);
    const std::string domain = at == std::string::npos ? config.myorigin() : setting.substr(at + 1);
    if (config.address_verify_sender_ttl().count() > 0) {
        local += epoch_text(static_cast<std::uint64_t>(std::max<std::int64_t>(0, epoch)));
    }
    return local + "@" + domain;
}

std::int64_t epoch_of(const Config& config, std::int64_t now_seconds) {
    const std::int64_t ttl = config.address_verify_sender_ttl().count();
    return ttl > 0 ? now_seconds / ttl : 0;
}

Task<Result<VerifyAnswer>> ask(std::string path, ToVerify message, Millis patience) {
    Result<UniqueFd> socket = co_await connect_unix(path, kConnectPatience);
    if (!socket) {
        co_return socket.error();
    }
    VerifyChannel channel(std::move(*socket), kMaxVerifyMessage);
    std::visit([&](auto& one) { channel.post(std::move(one)); }, message);
    Result<FromVerify> answer = co_await channel.receive(patience);
    if (!answer) {
        co_return answer.error();
    }
    co_return std::get<VerifyAnswer>(std::move(*answer));
}

}  // namespace

Task<Result<VerifyAnswer>> query(std::string path, std::string address, Millis wait) {
    VerifyQuery question;
    question.address = std::move(address);
    question.wait_msec = static_cast<std::uint32_t>(std::min<std::int64_t>(wait.count(), kMaxWaitMsec));
    ToVerify message(std::move(question));
    co_return co_await ask(std::move(path), std::move(message), wait + kAnswerPatience);
}

Task<Result<void>> update(std::string path, VerifyUpdate result) {
    result.text.resize(std::min(result.text.size(), kMaxVerifyText));
    ToVerify message(std::move(result));
    const Result<VerifyAnswer> answer = co_await ask(std::move(path), std::move(message), kAnswerPatience);
    if (!answer) {
        co_return answer.error();
    }
    if (!answer->ok) {
        co_return Error(Errc::denied, "permission denied");
    }
    co_return Result<void>();
}

std::string probe_sender(const Config& config, std::int64_t now_seconds) {
    return sender_in_epoch(config, epoch_of(config, now_seconds));
}

bool is_probe_sender(const Config& config, std::string_view address, std::int64_t now_seconds) {
    const std::int64_t epoch = epoch_of(config, now_seconds);
    for (const std::int64_t near : {epoch, epoch - 1, epoch + 1}) {
        const std::string sender = sender_in_epoch(config, near);
        if (!sender.empty() && equals_ignoring_case(address, sender)) {
            return true;
        }
    }
    return false;
}

}  // namespace postern::verify
