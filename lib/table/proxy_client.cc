/// proxy: tables: lookups through proxymap(8), over connections that all tables of a thread share.
#include <time.h>

#include <map>
#include <unordered_map>
#include <utility>

#include "lib/async/wait_here.h"
#include "lib/base/strings.h"
#include "lib/ipc/codec.h"
#include "lib/table/proxy_messages.h"
#include "lib/table/table_server.h"
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

std::string frame_of(table_proxy::Question& question) {
    std::string payload;
    std::vector<UniqueFd> none;
    Encoder encoder(payload, none);
    fields(encoder, question);
    std::string frame;
    put_size(frame, payload.size());
    frame.append(4, '\0');
    return frame + payload;
}

Error malformed(BlockingSocket& socket) {
    socket.close();
    return Error(Errc::syntax, "malformed answer");
}

/// Sends a frame; the payload of the answer's.
Result<std::string> exchange(BlockingSocket& socket, const std::string& frame) {
    if (const Result<void> sent = socket.write_all(frame); !sent) {
        return sent.error();
    }
    const Result<std::string> header = socket.read_exactly(kFrameHeader);
    if (!header) {
        return header.error();
    }
    const std::size_t size = get_size(*header);
    if (size > table_proxy::kMaxFrame || header->compare(4, 4, std::string(4, '\0')) != 0) {
        return malformed(socket);
    }
    return socket.read_exactly(size);
}

/// The thread's connections to the proxymap at `path`.
TableServer& proxymap_at(const std::string& path) {
    thread_local std::map<std::string, TableServer> all;
    return all.try_emplace(path, path, std::string()).first->second;
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
          allow_substitution_(context.allow_substitution) {
        allow_waiting_here();
    }

protected:
    Lookup find(std::string_view key) override {
        const std::int64_t now = now_ms();
        const std::string kept(key);
        if (const auto cached = cache_.find(kept); cached != cache_.end() && cached->second.until > now) {
            return cached->second.value;
        }
        table_proxy::Question question{inner_, kept, fold_case(), allow_substitution_};
        const Result<table_proxy::Answer> answer = ask(question);
        if (!answer) {
            return Error(Errc::temporary, name() + ": proxymap: " + answer.error().what);
        }
        std::optional<std::string> value;
        switch (answer->status) {
            case table_proxy::kFound: value = answer->text; break;
            case table_proxy::kAbsent: break;
            default: return Error(Errc::temporary, name() + ": " + printable(answer->text));
        }
        if (cache_.size() >= kCacheEntries) {
            cache_.clear();
        }
        cache_[kept] = Cached{value, now_ms() + kCacheMs};
        return value;
    }

private:
    /// proxymap itself may be well when one of its tables keeps it waiting: the outage is the table's.
    Result<table_proxy::Answer> ask(table_proxy::Question& question) {
        const std::string frame = frame_of(question);
        const auto one = [&frame](BlockingSocket& socket) { return exchange(socket, frame); };
        const auto asking = [this, &one] { return proxymap_at(socket_).ask(one, kTimeoutSeconds); };
        const Result<std::string> payload = outage_.guard(asking);
        if (!payload) {
            return payload.error();
        }
        table_proxy::Answer answer;
        std::deque<UniqueFd> none;
        Decoder decoder(*payload, none, 0);
        fields(decoder, answer);
        return decoder.finished() ? Result<table_proxy::Answer>(std::move(answer)) : Error(Errc::syntax, "malformed answer");
    }

    struct Cached {
        std::optional<std::string> value;
        std::int64_t until = 0;
    };
    std::string inner_;
    std::string socket_;
    bool allow_substitution_;
    std::unordered_map<std::string, Cached> cache_;
    Outage outage_;
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
