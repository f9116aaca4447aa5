#!/usr/bin/env bash
# Software:  PyPI focus-validator 2.2.1 with pyarrow 21.0.0 and its model 1.2.0.1, on Python 3.12
#            (PYTHON312 names it, python3.12 by default).
# Input:     one row of cost and usage with all columns of FOCUS 1.2 as CSV; then the same row with
#            one column changed at a time.
# One would guess: exit 0 means that the file passes; a good file passes; a bad one does not.
# Seen:      each run exits 0. No file passes: without an invoice id rule C-005 fails, with one
#            C-004 does, since each asks for the opposite and neither looks at the invoice's state.
#            60 seconds are no decimal (60.0 are), invoice 1001 is no string. A charge that ends
#            before it begins, a time without a zone, a list cost of 9999 at a unit price of 0.01
#            and a currency of XXX change nothing.
#            Output: "as it is: exit 0, 1 failed: InvoiceId-C-005-C"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON312:-python3.12}" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check focus-validator==2.2.1 pyarrow==21.0.0

cat >row.py <<'PY'
import csv
import sys

ROW = {
    "BilledCost": "0.60", "BillingAccountId": "acme", "BillingAccountName": "Acme",
    "BillingAccountType": "tenant", "BillingCurrency": "EUR",
    "BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z",
    "ChargeCategory": "Usage", "ChargeDescription": "running", "ChargeFrequency": "Usage-Based",
    "ChargePeriodStart": "2026-11-01T00:00:00Z", "ChargePeriodEnd": "2026-11-01T01:00:00Z",
    "ConsumedQuantity": "60.0", "ConsumedUnit": "Seconds", "ContractedCost": "0.60",
    "ContractedUnitPrice": "0.01", "EffectiveCost": "0.60", "InvoiceIssuerName": "Host",
    "ListCost": "0.60", "ListUnitPrice": "0.01", "PricingCategory": "Standard",
    "PricingCurrency": "EUR", "PricingCurrencyContractedUnitPrice": "0.01",
    "PricingCurrencyEffectiveCost": "0.60", "PricingCurrencyListUnitPrice": "0.01",
    "PricingQuantity": "60.0", "PricingUnit": "Seconds", "ProviderName": "Host",
    "PublisherName": "Host", "RegionId": "r1", "RegionName": "Region 1", "ResourceId": "vm1",
    "ResourceName": "vm1", "ResourceType": "VM", "ServiceCategory": "Compute",
    "ServiceName": "machines", "ServiceSubcategory": "Virtual Machines", "SkuId": "small",
    "SkuMeter": "running", "SkuPriceId": "small-1", "Tags": "{}",
}
EMPTY = """AvailabilityZone CapacityReservationId CapacityReservationStatus ChargeClass
CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName CommitmentDiscountQuantity
CommitmentDiscountStatus CommitmentDiscountType CommitmentDiscountUnit InvoiceId SkuPriceDetails
SubAccountId SubAccountName SubAccountType""".split()
row = dict.fromkeys(EMPTY, "") | ROW | dict(pair.split("=", 1) for pair in sys.argv[1:])
writer = csv.DictWriter(open("row.csv", "w"), sorted(row))
writer.writeheader()
writer.writerow(row)
PY
packages=$(venv/bin/python -c 'import focus_validator, os
print(os.path.dirname(os.path.dirname(focus_validator.__file__)))')
verdict() {
  local name=$1 code=0
  shift
  venv/bin/python row.py "$@"
  (cd "$packages" && "$dir/venv/bin/focus-validator" --data-file "$dir/row.csv" \
    --validate-version 1.2.0.1 --block-download) >said 2>&1 || code=$?
  echo "$name: exit $code, $(sed -nE 's/^Total.*Fail: ([0-9]+).*/\1/p' said) failed:" \
    "$(sed -nE 's/^- ([A-Za-z]+-C-[0-9]+-[A-Z]): .*/\1/p' said | sort | tr '\n' ' ')"
}
{
  verdict "as it is"
  verdict "invoice F1" InvoiceId=F1
  verdict "invoice 1001" InvoiceId=1001
  verdict "quantity 60" PricingQuantity=60
  verdict "ends a month before it begins" ChargePeriodEnd=2026-10-01T00:00:00Z
  verdict "begins without a zone" ChargePeriodStart=2026-11-01T00:00:00
  verdict "list cost 9999" ListCost=9999.0
  verdict "currency XXX" BillingCurrency=XXX
} | sed 's/ *$//' >seen

cat >expected <<'TXT'
as it is: exit 0, 1 failed: InvoiceId-C-005-C
invoice F1: exit 0, 1 failed: InvoiceId-C-004-C
invoice 1001: exit 0, 3 failed: InvoiceId-C-000-O InvoiceId-C-001-M InvoiceId-C-004-C
quantity 60: exit 0, 3 failed: InvoiceId-C-005-C PricingQuantity-C-000-M PricingQuantity-C-001-M
ends a month before it begins: exit 0, 1 failed: InvoiceId-C-005-C
begins without a zone: exit 0, 1 failed: InvoiceId-C-005-C
list cost 9999: exit 0, 1 failed: InvoiceId-C-005-C
currency XXX: exit 0, 1 failed: InvoiceId-C-005-C
TXT
if ! diff -u expected seen; then
  echo "changed: the validator judges a row in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: exit 0 whatever fails, and no invoice id that passes"
