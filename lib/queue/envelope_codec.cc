#include "lib/queue/envelope_codec.h"

#include <type_traits>

#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

// The tags are the format: a number once given keeps its meaning for ever (queue_file(5) lists them).
// `visitor(tag, member)` is called for each; the same lists serve writing and reading.

template <class V, class R>
void visit_recipient(V& visitor, R& r) {
    visitor(1, r.address);
    visitor(2, r.original);
    visitor(3, r.dsn_orcpt);
    visitor(4, r.notify);
    visitor(5, r.expanded);
}

template <class V, class C>
void visit_client(V& visitor, C& c) {
    visitor(1, c.name);
    visitor(2, c.reverse_name);
    visitor(3, c.address);
    visitor(4, c.port);
    visitor(5, c.helo);
    visitor(6, c.protocol);
    visitor(7, c.sasl_method);
    visitor(8, c.sasl_username);
    visitor(9, c.sasl_sender);
    visitor(10, c.ident);
    visitor(11, c.service);
    visitor(12, c.tls_comments);
}

template <class V, class E>
void visit_envelope(V& visitor, E& e) {
    visitor(1, e.sender);
    visitor(2, e.recipients);
    visitor(3, e.arrival_usec);
    visitor(4, e.dsn_envid);
    visitor(5, e.dsn_ret);
    visitor(6, e.encoding);
    visitor(7, e.smtputf8);
    visitor(8, e.requiretls);
    visitor(9, e.origin, kOriginSmtp);
    visitor(10, e.rewrite_local);
    visitor(11, e.client);
    visitor(12, e.sender_full_name);
    visitor(13, e.verp_delimiters);
    visitor(14, e.content_filter);
    visitor(15, e.redirect);
    visitor(16, e.hold);
    visitor(17, e.trace);
    visitor(18, e.verify_only);
    visitor(19, e.maildrop_file);
    visitor(20, e.hop_count);
    visitor(21, e.submit_uid, std::int64_t{-1});
}

class Encoder {
public:
    void operator()(std::uint8_t tag, const std::string& value) {
        if (!value.empty()) {
            field(tag, value);
        }
    }
    template <class Number>
        requires std::is_integral_v<Number>
    void operator()(std::uint8_t tag, const Number& value, Number absent = 0) {
        if (value != absent) {
            std::string bytes;
            put_number(bytes, value);
            field(tag, bytes);
        }
    }
    void operator()(std::uint8_t tag, const std::vector<std::string>& values) {
        for (const std::string& value : values) {
            field(tag, value);
        }
    }
    void operator()(std::uint8_t tag, const std::vector<Recipient>& recipients) {
        for (const Recipient& recipient : recipients) {
            Encoder nested;
            visit_recipient(nested, recipient);
            field(tag, nested.out);
        }
    }
    void operator()(std::uint8_t tag, const Client& client) {
        Encoder nested;
        visit_client(nested, client);
        (*this)(tag, nested.out);
    }
    std::string out;

private:
    void field(std::uint8_t tag, std::string_view bytes) {
        put_number(out, tag);
        put_number(out, static_cast<std::uint32_t>(bytes.size()));
        out += bytes;
    }
};

template <class Visit, class Object>
bool decode_fields(std::string_view bytes, Object& object, Visit visit);

/// Stores one field into the member with its tag.
struct Decoder {
    std::uint8_t tag;
    std::string_view bytes;
    bool ok = true;

    void operator()(std::uint8_t member_tag, std::string& member) {
        if (member_tag == tag) {
            member = bytes;
        }
    }
    template <class Number>
        requires std::is_integral_v<Number>
    void operator()(std::uint8_t member_tag, Number& member, Number = 0) {
        if (member_tag == tag) {
            StoredReader in(bytes);
            if constexpr (std::is_same_v<Number, bool>) {
                member = in.number<std::uint8_t>() != 0;
            } else {
                member = in.number<Number>();
            }
            ok = ok && in.ok() && in.empty();
        }
    }
    void operator()(std::uint8_t member_tag, std::vector<std::string>& member) {
        if (member_tag == tag) {
            member.emplace_back(bytes);
        }
    }
    void operator()(std::uint8_t member_tag, std::vector<Recipient>& member) {
        if (member_tag == tag) {
            Recipient& added = member.emplace_back();
            ok = ok && decode_fields(bytes, added, [](Decoder& d, Recipient& r) { visit_recipient(d, r); });
        }
    }
    void operator()(std::uint8_t member_tag, Client& member) {
        if (member_tag == tag) {
            ok = ok && decode_fields(bytes, member, [](Decoder& d, Client& c) { visit_client(d, c); });
        }
    }
};

template <class Visit, class Object>
bool decode_fields(std::string_view bytes, Object& object, Visit visit) {
    StoredReader in(bytes);
    while (!in.empty()) {
        const auto tag = in.number<std::uint8_t>();
        const auto length = in.number<std::uint32_t>();
        Decoder decoder{.tag = tag, .bytes = in.take(length)};
        if (!in.ok()) {
            return false;
        }
        visit(decoder, object);
        if (!decoder.ok) {
            return false;
        }
    }
    return true;
}

}  // namespace

std::string encode_envelope(const Envelope& envelope) {
    Encoder encoder;
    visit_envelope(encoder, envelope);
    return std::move(encoder.out);
}

Result<Envelope> decode_envelope(std::string_view bytes) {
    Envelope envelope;
    if (!decode_fields(bytes, envelope, [](Decoder& d, Envelope& e) { visit_envelope(d, e); })) {
        return Error(Errc::corrupt, "queue file envelope: malformed field");
    }
    return envelope;
}

}  // namespace postern::queue
