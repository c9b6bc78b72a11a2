/// proxy: tables: lookups through proxymap(8), over one connection for the whole process.
#include <time.h>

#include <unordered_map>
#include <utility>

#include "lib/base/strings.h"
#include "lib/ipc/codec.h"
#include "lib/table/blocking_socket.h"
#include "lib/table/proxy_messages.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

constexpr int kTimeoutSeconds = 30;
constexpr std::int64_t kCacheMs = 1500;      ///< an answer is good for so long: about one message
constexpr std::size_t kCacheEntries = 1000;
constexpr std::size_t kFrameHeader = 8;      ///< as in lib/ipc/channel.h

std::int64_t now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

void put_size(std::string& frame, std::size_t size) {
    for (int i = 0; i < 4; ++i) {
        frame += static_cast<char>(size >> (8 * i) & 0xff);
    }
}

std::size_t get_size(std::string_view header) {
    std::size_t size = 0;
    for (std::size_t i = 4; i-- > 0;) {
        size = size << 8 | static_cast<unsigned char>(header[i]);
    }
    return size;
}

/// The thread's connection to proxymap; made when it is first needed.
class ProxyConnection {
public:
    Result<table_proxy::Answer> ask(const std::string& path, table_proxy::Question& question) {
        // A connection that was open may have been closed while idle: that is worth a second attempt.
        const bool reused = socket_.is_open() && path == path_;
        Result<table_proxy::Answer> answer = ask_once(path, question);
        if (!answer && reused && answer.error().code == Errc::closed) {
            answer = ask_once(path, question);
        }
        return answer;
    }

private:
    Result<table_proxy::Answer> ask_once(const std::string& path, table_proxy::Question& question) {
        if (!socket_.is_open() || path != path_) {
            path_ = path;
            if (const Result<void> connected = socket_.connect_unix(path, kTimeoutSeconds); !connected) {
                return connected.error();
            }
        }
        std::string payload;
        std::vector<UniqueFd> none;
        Encoder encoder(payload, none);
        fields(encoder, question);
        std::string frame;
        put_size(frame, payload.size());
        frame.append(4, '\0');
        frame += payload;
        if (const Result<void> sent = socket_.write_all(frame); !sent) {
            return sent.error();
        }
        return receive();
    }

    Result<table_proxy::Answer> receive() {
        const Result<std::string> header = socket_.read_exactly(kFrameHeader);
        if (!header) {
            return header.error();
        }
        const std::size_t size = get_size(*header);
        if (size > table_proxy::kMaxFrame || header->compare(4, 4, std::string(4, '\0')) != 0) {
            socket_.close();
            return Error(Errc::syntax, "malformed answer");
        }
        const Result<std::string> payload = socket_.read_exactly(size);
        if (!payload) {
            return payload.error();
        }
        table_proxy::Answer answer;
        std::deque<UniqueFd> none;
        Decoder decoder(*payload, none, 0);
        fields(decoder, answer);
        if (!decoder.finished()) {
            socket_.close();
            return Error(Errc::syntax, "malformed answer");
        }
        return answer;
    }

    std::string path_;
    BlockingSocket socket_;
};

ProxyConnection& connection() {
    thread_local ProxyConnection one;
    return one;
}

/// Pattern tables show it by their type; wrappers by their first part.
bool names_pattern_table(std::string_view spec) {
    const std::string_view type = spec.substr(0, spec.find(':'));
    if (type == "unionmap" || type == "pipemap") {
        const Result<std::vector<std::string>> parts = braced_list(spec.substr(type.size() + 1), spec);
        bool all = parts.ok();
        for (const std::string& part : parts ? *parts : std::vector<std::string>()) {
            all = all && names_pattern_table(part);
        }
        return all;
    }
    return type == "regexp" || type == "pcre" || type == "cidr" || type == "tcp" || type == "randmap";
}

class ProxyTable final : public Table {
public:
    ProxyTable(std::string_view inner, const TableContext& context)
        : Table(full_name("proxy", inner), names_pattern_table(inner), context.fold_case),
          inner_(inner),
          socket_(context.proxymap_socket),
          allow_substitution_(context.allow_substitution) {}

protected:
    Lookup find(std::string_view key) override {
        const std::int64_t now = now_ms();
        const std::string kept(key);
        if (const auto cached = cache_.find(kept); cached != cache_.end() && cached->second.until > now) {
            return cached->second.value;
        }
        table_proxy::Question question{inner_, kept, fold_case(), allow_substitution_};
        Result<table_proxy::Answer> answer = connection().ask(socket_, question);
        if (!answer) {
            return Error(Errc::temporary, name() + ": proxymap: " + answer.error().what);
        }
        std::optional<std::string> value;
        switch (answer->status) {
            case table_proxy::kFound: value = std::move(answer->text); break;
            case table_proxy::kAbsent: break;
            default: return Error(Errc::temporary, name() + ": " + printable(answer->text));
        }
        if (cache_.size() >= kCacheEntries) {
            cache_.clear();
        }
        cache_[kept] = Cached{value, now + kCacheMs};
        return value;
    }

private:
    struct Cached {
        std::optional<std::string> value;
        std::int64_t until = 0;
    };
    std::string inner_;
    std::string socket_;
    bool allow_substitution_;
    std::unordered_map<std::string, Cached> cache_;
};

}  // namespace

Result<TablePtr> open_proxy(std::string_view name, const TableContext& context) {
    if (name.find(':') == std::string_view::npos) {
        return Error(Errc::config, full_name("proxy", name) + ": need proxy:type:name");
    }
    if (context.proxymap_socket.empty()) {
        return open_table(name, context);
    }
    return TablePtr(std::make_unique<ProxyTable>(name, context));
}

}  // namespace postern::table_type
