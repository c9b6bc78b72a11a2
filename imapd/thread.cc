#include "imapd/thread.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "imapd/response.h"

namespace postern::imapd {

namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

/// A message, or a message id that others refer to.
struct Container {
    const SortValues* message = nullptr;       ///< null: not in the mailbox
    std::size_t parent = kNone;
};

/// Steps 1 and 2: who answers whom.
class References {
public:
    explicit References(const std::vector<SortValues>& messages) {
        for (const SortValues& message : messages) {
            add(message);
        }
    }
    const std::vector<Container>& containers() const { return containers_; }

private:
    std::size_t container_of(const std::string& id) {
        const auto [found, fresh] = by_id_.try_emplace(id, containers_.size());
        if (fresh) {
            containers_.emplace_back();
        }
        return found->second;
    }

    /// The container of the message itself; a second message with the same id counts as having none.
    std::size_t own_container(const SortValues& message) {
        if (!message.message_id.empty()) {
            const std::size_t own = container_of(message.message_id);
            if (containers_[own].message == nullptr) {
                containers_[own].message = &message;
                return own;
            }
        }
        containers_.emplace_back();
        containers_.back().message = &message;
        return containers_.size() - 1;
    }

    bool is_ancestor(std::size_t candidate, std::size_t of) const {
        for (std::size_t at = of; at != kNone; at = containers_[at].parent) {
            if (at == candidate) {
                return true;
            }
        }
        return false;
    }

    void add(const SortValues& message) {
        const std::size_t own = own_container(message);
        std::size_t previous = kNone;
        for (const std::string& id : message.references) {
            const std::size_t next = container_of(id);
            if (previous != kNone && containers_[next].parent == kNone && !is_ancestor(next, previous)) {
                containers_[next].parent = previous;
            }
            previous = next;
        }
        // The message's own References decide, whatever others said before.
        containers_[own].parent = kNone;
        if (previous != kNone && !is_ancestor(own, previous)) {
            containers_[own].parent = previous;
        }
    }

    std::vector<Container> containers_;
    std::unordered_map<std::string, std::size_t> by_id_;
};

/// Step 3: the forest without empty containers, except at the root where they hold several messages together.
class Pruner {
public:
    Pruner(const std::vector<Container>& containers, std::vector<const SortValues*>& messages)
        : containers_(containers), node_of_(containers.size(), kNone), messages_(messages) {}

    Forest run() {
        for (std::size_t i = 0; i < containers_.size(); ++i) {
            if (const SortValues* const message = containers_[i].message; message != nullptr) {
                node_of_[i] = add_node(message);
            }
        }
        for (std::size_t i = 0; i < containers_.size(); ++i) {
            if (containers_[i].message != nullptr) {
                place(i);
            }
        }
        keep_groups();
        return std::move(forest_);
    }

private:
    std::size_t add_node(const SortValues* message) {
        Forest::Node node;
        node.uid = message == nullptr ? 0 : message->uid;
        node.date = message == nullptr ? 0 : message->sent;
        forest_.nodes.push_back(std::move(node));
        messages_.push_back(message);
        return forest_.nodes.size() - 1;
    }

    /// Under the nearest ancestor that exists, or under the topmost one that does not.
    void place(std::size_t index) {
        std::size_t top = kNone;
        for (std::size_t at = containers_[index].parent; at != kNone; at = containers_[at].parent) {
            if (containers_[at].message != nullptr) {
                forest_.nodes[node_of_[at]].children.push_back(node_of_[index]);
                return;
            }
            top = at;
        }
        if (top == kNone) {
            forest_.roots.push_back(node_of_[index]);
            return;
        }
        if (node_of_[top] == kNone) {
            node_of_[top] = add_node(nullptr);
            groups_.push_back(node_of_[top]);
        }
        forest_.nodes[node_of_[top]].children.push_back(node_of_[index]);
    }

    void keep_groups() {
        for (const std::size_t group : groups_) {
            const std::vector<std::size_t>& children = forest_.nodes[group].children;
            forest_.roots.push_back(children.size() == 1 ? children.front() : group);
        }
    }

    const std::vector<Container>& containers_;
    std::vector<std::size_t> node_of_;
    std::vector<const SortValues*>& messages_;
    std::vector<std::size_t> groups_;
    Forest forest_;
};

std::int64_t date_of(const Forest& forest, std::size_t node) {
    const Forest::Node& self = forest.nodes[node];
    if (self.uid != 0 || self.children.empty()) {
        return self.date;
    }
    std::int64_t first = forest.nodes[self.children.front()].date;
    for (const std::size_t child : self.children) {
        first = std::min(first, forest.nodes[child].date);
    }
    return first;
}

store::Uid uid_of(const Forest& forest, std::size_t node) {
    const Forest::Node& self = forest.nodes[node];
    return self.uid != 0 || self.children.empty() ? self.uid : forest.nodes[self.children.front()].uid;
}

void sort_by_date(const Forest& forest, std::vector<std::size_t>& nodes) {
    std::stable_sort(nodes.begin(), nodes.end(), [&](std::size_t a, std::size_t b) {
        const std::int64_t left = date_of(forest, a);
        const std::int64_t right = date_of(forest, b);
        return left != right ? left < right : uid_of(forest, a) < uid_of(forest, b);
    });
}

/// Step 5: roots with the same base subject are brought together.
class SubjectMerger {
public:
    SubjectMerger(Forest& forest, std::vector<const SortValues*>& messages) : forest_(forest), messages_(messages) {}

    void run() {
        for (const std::size_t root : forest_.roots) {
            enter(root);
        }
        std::vector<std::size_t> kept;
        for (const std::size_t root : forest_.roots) {
            merge(root, kept);
        }
        forest_.roots = std::move(kept);
    }

private:
    bool dummy(std::size_t node) const { return forest_.nodes[node].uid == 0; }
    const SortValues* subject_holder(std::size_t node) const {
        return messages_[dummy(node) ? forest_.nodes[node].children.front() : node];
    }
    bool is_reply(std::size_t node) const { return subject_holder(node)->reply; }

    void enter(std::size_t root) {
        const std::string& subject = subject_holder(root)->subject;
        if (subject.empty()) {
            return;
        }
        const auto [found, fresh] = table_.try_emplace(subject, root);
        if (!fresh && !dummy(found->second) && (dummy(root) || (is_reply(found->second) && !is_reply(root)))) {
            found->second = root;
        }
    }

    void merge(std::size_t root, std::vector<std::size_t>& kept) {
        if (std::find(replaced_.begin(), replaced_.end(), root) != replaced_.end()) {
            return;
        }
        const auto found = table_.find(subject_holder(root)->subject);
        if (found == table_.end() || found->second == root) {
            kept.push_back(root);
            return;
        }
        const std::size_t other = found->second;
        std::vector<std::size_t>& children = forest_.nodes[other].children;
        if (dummy(other) && dummy(root)) {
            const std::vector<std::size_t> moved = std::move(forest_.nodes[root].children);
            children.insert(children.end(), moved.begin(), moved.end());
        } else if (dummy(other) || (is_reply(root) && !is_reply(other))) {
            children.push_back(root);
        } else {
            join(found->second, root, kept);
        }
    }

    /// Both become children of a new empty container, which takes the place of the first.
    void join(std::size_t& entry, std::size_t root, std::vector<std::size_t>& kept) {
        Forest::Node group;
        group.children = {entry, root};
        forest_.nodes.push_back(std::move(group));
        messages_.push_back(nullptr);
        const std::size_t index = forest_.nodes.size() - 1;
        const auto place = std::find(kept.begin(), kept.end(), entry);
        if (place != kept.end()) {
            *place = index;
        } else {
            kept.push_back(index);
            replaced_.push_back(entry);
        }
        entry = index;
    }

    Forest& forest_;
    std::vector<const SortValues*>& messages_;
    std::unordered_map<std::string_view, std::size_t> table_;
    std::vector<std::size_t> replaced_;        ///< joined before the walk came to them
};

}  // namespace

Forest thread_by_subject(const std::vector<SortValues>& messages) {
    Forest forest;
    std::unordered_map<std::string_view, std::vector<const SortValues*>> threads;
    for (const SortValues& message : messages) {
        threads[message.subject].push_back(&message);
    }
    for (auto& [subject, members] : threads) {
        std::stable_sort(members.begin(), members.end(), [](const SortValues* a, const SortValues* b) {
            return a->sent != b->sent ? a->sent < b->sent : a->uid < b->uid;
        });
        const std::size_t root = forest.nodes.size();
        for (std::size_t i = 0; i < members.size(); ++i) {
            if (i > 0) {
                forest.nodes[root].children.push_back(forest.nodes.size());
            }
            Forest::Node node;
            node.uid = members[i]->uid;
            node.date = members[i]->sent;
            forest.nodes.push_back(std::move(node));
        }
        forest.roots.push_back(root);
    }
    sort_by_date(forest, forest.roots);
    return forest;
}

Forest thread_by_references(const std::vector<SortValues>& messages) {
    const References references(messages);
    std::vector<const SortValues*> message_of;     // by node
    Forest forest = Pruner(references.containers(), message_of).run();
    for (Forest::Node& node : forest.nodes) {
        sort_by_date(forest, node.children);
    }
    sort_by_date(forest, forest.roots);
    SubjectMerger(forest, message_of).run();
    for (Forest::Node& node : forest.nodes) {
        sort_by_date(forest, node.children);
    }
    sort_by_date(forest, forest.roots);
    return forest;
}

void append_forest(std::string& out, const Forest& forest, const std::function<std::uint32_t(store::Uid)>& number) {
    struct Step {
        std::size_t node;                      ///< kNone: close a parenthesis
        bool open;                             ///< put one before the node and close it after
    };
    std::vector<Step> steps;
    const auto push = [&steps](const std::vector<std::size_t>& nodes, bool open) {
        for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
            steps.push_back({*node, open});
        }
    };
    push(forest.roots, true);
    while (!steps.empty()) {
        const Step step = steps.back();
        steps.pop_back();
        if (step.node == kNone) {
            out += ')';
            continue;
        }
        if (step.open) {
            out += '(';
            steps.push_back({kNone, false});
        }
        const Forest::Node& node = forest.nodes[step.node];
        const bool branches = node.children.size() > 1 || node.uid == 0;
        if (node.uid != 0) {
            append_number(out, number(node.uid));
            out += node.children.empty() ? "" : " ";
        }
        push(node.children, branches);
    }
}

}  // namespace postern::imapd
