# Postern.  GNU make; nothing is generated outside build/.
#
#   make            build everything            make check       all tests
#   make try        a private running instance  make check-asan  the same under sanitizers
#   make deps       install what the build needs (apt or dnf)
#   make fuzz       every fuzzer for FUZZ_SECONDS each
#   make bench      comparison with Postfix and Dovecot
#   make install    under DESTDIR and PREFIX    make uninstall, make purge
#
# How the tree maps to programs: every .cc file that defines main() is a program named like the file; all
# other files of a folder form that folder's archive, and every program may link every archive.  The linker
# takes only what is used, so a program that does not call OpenSSL does not load it.

CXX      ?= g++
CXXFLAGS ?= -O2 -g1
PREFIX   ?= /usr
BUILD    ?= build
AR       ?= ar

ifeq ($(origin CXX),default)
CXX := g++
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
# g++ 12 cannot follow values into coroutine frames and std::optional at -O2.
WARNINGS += $(if $(findstring clang,$(CXX)),,-Wno-maybe-uninitialized)
HARDENING := -fstack-protector-strong -fPIE -fno-plt
LINK_HARDENING := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
CPPFLAGS += -I. -I$(BUILD)/gen -MMD -MP
STD := -std=c++20 -pthread

have = $(shell pkg-config --exists $(1) 2>/dev/null && echo yes)
header = $(shell printf '\#include <$(1)>\n' | $(CXX) -E -x c++ - >/dev/null 2>&1 && echo yes)

LIBS := -levent_core -lssl -lcrypto -lcap -lseccomp -lfmt -llmdb -lpcre2-8 -lcdb -lgsasl -lcrypt -lpam -lunbound -lidn2 -lz
CPPFLAGS_OPT :=
ifeq ($(call have,libsystemd),yes)
LIBS += -lsystemd
CPPFLAGS_OPT += -DHAVE_SYSTEMD
endif
ifeq ($(call have,libsodium),yes)
LIBS += -lsodium
CPPFLAGS_OPT += -DHAVE_SODIUM
endif
ifeq ($(call have,libcurl),yes)
LIBS += -lcurl
$(BUILD)/obj/lib/http/%.o: CPPFLAGS_OPT += -DHAVE_CURL
endif

# What the README's commands build, they build on all processors, unless told a number of jobs.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) --no-print-directory $(JOBS)

# --- the tree ---------------------------------------------------------------------------------------------
LIB_DIRS  := $(sort $(patsubst %/,%,$(wildcard lib/*/)))
PROG_DIRS := master smtpd cleanup qmgr smtp local auth proxymap tlspolicy verify pop3d imapd tools
SOURCES   := $(wildcard $(LIB_DIRS:=/*.cc) $(PROG_DIRS:=/*.cc))
OPEN := (
MAINS     := $(shell grep -l '^int main$(OPEN)' $(wildcard $(PROG_DIRS:=/*.cc)) /dev/null)
PROGRAMS  := $(addprefix $(BUILD)/bin/,$(notdir $(MAINS:.cc=)))
ARCHIVES  := $(foreach d,$(LIB_DIRS) $(PROG_DIRS),$(if $(filter-out $(MAINS),$(wildcard $(d)/*.cc)),$(BUILD)/$(d).a))
TESTS     := $(patsubst t/%.cc,$(BUILD)/t/%,$(wildcard t/*_test.cc))
FUZZERS   := $(patsubst t/fuzz/%.cc,$(BUILD)/fuzz/%,$(wildcard t/fuzz/*_fuzz.cc))
GENERATED := $(BUILD)/gen/getters.inc
LINK       = $(CXX) $(STD) $(CXXFLAGS) $(LINK_HARDENING) $(LDFLAGS) -o $@ $(filter %.o,$^) \
             -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)

.DELETE_ON_ERROR:
# Every object is named by what is made of it but those of t/bench/: a new source file, however old, is compiled.
.PRECIOUS: $(BUILD)/obj/%.o
.PHONY: all programs tests
all: programs
programs: $(PROGRAMS)
tests: $(TESTS)

$(BUILD)/obj/%.o: %.cc | $(GENERATED)
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	@$(CXX) $(STD) $(CPPFLAGS) $(CPPFLAGS_OPT) $(CXXFLAGS) $(WARNINGS) $(HARDENING) -c -o $@ $<

# One archive per folder.
define archive_rule
$(BUILD)/$(1).a: $(patsubst %.cc,$(BUILD)/obj/%.o,$(filter-out $(MAINS),$(wildcard $(1)/*.cc)))
	@mkdir -p $$(@D)
	@rm -f $$@
	@$$(AR) rcs $$@ $$^
endef
$(foreach d,$(LIB_DIRS) $(PROG_DIRS),$(eval $(call archive_rule,$(d))))

# A program that is built with sanitizers knows what they shall do: its environment does not always reach it.
SANITIZER := $(if $(findstring -fsanitize=address,$(CXXFLAGS)),$(BUILD)/obj/t/sanitizer_options.o)

# A program links its own folder's archive and the libraries; postern-trace shows what other programs would do, with their code.
FOLDERS_OF_postern-trace := tools cleanup smtp
define program_rule
$(BUILD)/bin/$(notdir $(1:.cc=)): $(BUILD)/obj/$(1:.cc=.o) $(SANITIZER) $(filter $(patsubst %,$(BUILD)/%.a,$(or $(FOLDERS_OF_$(notdir $(1:.cc=))),$(patsubst %/,%,$(dir $(1))))) $(BUILD)/lib/%.a,$(ARCHIVES))
	@mkdir -p $$(@D)
	@echo "  LINK $$@"
	@$$(LINK)
endef
$(foreach m,$(MAINS),$(eval $(call program_rule,$(m))))

# The test library's own code needs no optimisation, and takes minutes under the sanitizers.
$(BUILD)/obj/t/catch_main.o: override CXXFLAGS := -O0

# A test may link every library, and the program folder that its name begins with (t/smtpd_session_test.cc: smtpd).
define test_rule
$(BUILD)/t/$(1): $(BUILD)/obj/t/$(1).o $(BUILD)/obj/t/catch_main.o $(SANITIZER) $(filter $(BUILD)/lib/%.a $(foreach d,$(PROG_DIRS),$(if $(filter $(d)_%,$(1)),$(BUILD)/$(d).a)),$(ARCHIVES))
	@mkdir -p $$(@D)
	@echo "  LINK $$@"
	@$$(LINK)
endef
$(foreach t,$(notdir $(TESTS)),$(eval $(call test_rule,$(t))))

# The whole table is seen by one file.  Names and types alone, which every program sees, are a file of their own
# that stays untouched while they do not change.
$(BUILD)/gen/parameters.inc: lib/config/parameters.tsv lib/config/generate.awk
	@mkdir -p $(@D)
	@awk -f lib/config/generate.awk $< > $@

$(BUILD)/gen/getters.inc: $(BUILD)/gen/parameters.inc
	@sed 's/^\(POSTERN_PARAMETER("[^"]*", [^,]*, [^,]*\),.*/\1)/' $< > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# --- fuzzing: clang's libFuzzer, with the libraries compiled again under its instrumentation ----------------
FUZZ_CXX ?= clang++-14
FUZZ_FLAGS := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=function -fno-sanitize-recover=undefined
FUZZ_SECONDS ?= 30
.PHONY: fuzz-build fuzz-objects
fuzz-objects: $(ARCHIVES) $(patsubst %.cc,$(BUILD)/obj/%.o,$(wildcard t/fuzz/*_fuzz.cc))
fuzz-build:
	+@$(SUBMAKE) BUILD=$(BUILD)/fuzz-build CXX="$(FUZZ_CXX)" CXXFLAGS="$(FUZZ_FLAGS)" HARDENING= fuzz-objects

$(BUILD)/fuzz/%: fuzz-build
	@mkdir -p $(@D)
	@echo "  FUZZ $@"
	@$(FUZZ_CXX) -fsanitize=fuzzer,address,undefined -Wl,--as-needed -o $@ $(BUILD)/fuzz-build/obj/t/fuzz/$*.o \
	    -Wl,--start-group $(patsubst $(BUILD)/%,$(BUILD)/fuzz-build/%,$(ARCHIVES)) -Wl,--end-group $(LIBS) -lpthread

# --- tests ----------------------------------------------------------------------------------------------------
E2E := $(sort $(wildcard t/e2e/test_*.py))
LINTED := $(wildcard *.cc */*.cc */*.h lib/*/*.cc lib/*/*.h t/fuzz/*.cc)

.PHONY: check check-unit check-e2e check-asan lint-co lint-man fuzz bench
check: lint-co lint-man lint-status
	+@$(SUBMAKE) programs tests $(BENCH_TOOLS)
	@t/run -j 2 $(TESTS) $(E2E)

check-unit:
	+@$(SUBMAKE) tests
	@t/run -j 2 $(TESTS)

check-e2e:
	+@$(SUBMAKE) programs $(BENCH_TOOLS)
	@t/run $(E2E)

# Coroutine forms that g++ 12 miscompiles (CONTRIBUTING.md), and proof that the lint knows them.
lint-co:
	@t/lint_co_check
	@awk -f t/lint_co.awk $(LINTED)

# Rows of the parameter table say in_force where code reads them, and nowhere else.
.PHONY: lint-status
lint-status:
	@sh t/config_status_lint.sh

MAN_PAGES := $(sort $(wildcard man/*.[1-8])) $(BUILD)/man/postconf.5
lint-man: $(MAN_PAGES)
	@mandoc -T lint -W warning $(MAN_PAGES)

$(BUILD)/man/postconf.5: man/postconf.5.awk lib/config/parameters.tsv
	@mkdir -p $(@D)
	@awk -f man/postconf.5.awk lib/config/parameters.tsv > $@

# Everything again under AddressSanitizer and UBSan, in a build directory of its own.
ASAN_FLAGS := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
check-asan:
	+@$(SUBMAKE) BUILD=$(BUILD)/asan CXXFLAGS="$(ASAN_FLAGS)" HARDENING= LINK_HARDENING=-Wl,--as-needed programs tests \
	    $(patsubst $(BUILD)/%,$(BUILD)/asan/%,$(BENCH_TOOLS))
	@POSTERN_BIN=$(CURDIR)/$(BUILD)/asan/bin POSTERN_SANITIZED=1 \
	    t/run -j 2 $(patsubst $(BUILD)/%,$(BUILD)/asan/%,$(TESTS)) $(E2E)

# FUZZ_SECONDS for each fuzzer.
fuzz: $(FUZZERS)
	@t/fuzz/run $(FUZZ_SECONDS) $(FUZZERS)

# What the benchmarks need beside Python: each t/bench/NAME.cc is a program that links the libraries.
BENCH_TOOLS := $(patsubst t/bench/%.cc,$(BUILD)/bench/%,$(wildcard t/bench/*.cc))
$(BUILD)/bench/%: $(BUILD)/obj/t/bench/%.o $(filter $(BUILD)/lib/%.a,$(ARCHIVES))
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(LINK)

# BENCH_OPTIONS=--full: the queue's figures in full size, which takes an hour; otherwise a tenth.
bench: programs $(BENCH_TOOLS)
	@python3 t/bench/run.py
	@python3 t/bench/relay.py
	@python3 t/bench/floor.py
	@python3 t/bench/queue.py $(BENCH_OPTIONS)

# --- first contact and installation ---------------------------------------------------------------------------
.PHONY: deps try try-stop install uninstall purge clean
deps:
	@conf/install-deps

try:
	@conf/install-deps --missing
	+@$(SUBMAKE) programs
	@python3 conf/try.py start $(BUILD)

try-stop:
	@python3 conf/try.py stop $(BUILD)

install: programs $(BUILD)/man/postconf.5
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" BUILD="$(BUILD)" conf/install.sh install

uninstall:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" BUILD="$(BUILD)" conf/install.sh uninstall

purge:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" BUILD="$(BUILD)" conf/install.sh purge

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
