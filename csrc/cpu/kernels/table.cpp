// The tables of all kernel sources in one; compiled once per instruction set.

#include "table.h"

namespace fastnst {
namespace FASTNST_ISA {

extern const GramTable gram_table;
extern const WinogradTable winograd_tables[2];
extern const DirectTable direct_table;
extern const HistoryTable history_table;
extern const SumsTable sums_table;

extern const KernelTable table;
const KernelTable table = {FASTNST_ISA_NAME, &gram_table,    winograd_tables,
                           &direct_table,    &history_table, &sums_table};

}  // namespace FASTNST_ISA
}  // namespace fastnst
