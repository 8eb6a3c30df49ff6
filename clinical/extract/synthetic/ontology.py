"""The diagnosis and drug codes of the synthetic hospital, with their parents.

Diagnoses are ICD-10-CM, drugs ATC. Organ groups let codes occur together beyond what the burden
of chronic disease explains.
"""

ICD10 = "ICD10CM"
ATC = "ATC"

# vocabulary, parent code, its description, then the codes below it.
Family = tuple[str, str, str, dict[str, str]]

CHRONIC_GROUPS: dict[str, tuple[Family, ...]] = {
    "heart": (
        (ICD10, "I50", "Heart failure", {
            "I50.2": "Systolic heart failure", "I50.3": "Diastolic heart failure",
            "I50.9": "Heart failure, unspecified"}),
        (ICD10, "I25", "Chronic ischaemic heart disease", {
            "I25.1": "Atherosclerotic heart disease", "I25.2": "Old myocardial infarction",
            "I25.5": "Ischaemic cardiomyopathy"}),
        (ICD10, "I48", "Atrial fibrillation and flutter", {
            "I48.0": "Paroxysmal atrial fibrillation", "I48.2": "Chronic atrial fibrillation"}),
        (ATC, "C03C", "High-ceiling diuretics", {"C03CA01": "Furosemide", "C03CA04": "Torasemide"}),
    ),
    "lung": (
        (ICD10, "J44", "Chronic obstructive pulmonary disease", {
            "J44.0": "COPD with lower respiratory infection", "J44.1": "COPD with exacerbation",
            "J44.9": "COPD, unspecified"}),
        (ICD10, "J84", "Interstitial lung disease", {
            "J84.1": "Pulmonary fibrosis", "J84.9": "Interstitial pulmonary disease"}),
        (ICD10, "J96", "Respiratory failure", {"J96.1": "Chronic respiratory failure"}),
        (ATC, "R03B", "Inhalants for obstructive airway disease", {
            "R03BB04": "Tiotropium", "R03BA02": "Budesonide", "R03BB01": "Ipratropium"}),
    ),
    "kidney": (
        (ICD10, "N18", "Chronic kidney disease", {
            "N18.3": "Chronic kidney disease, stage 3", "N18.4": "Chronic kidney disease, stage 4",
            "N18.6": "End stage renal disease"}),
        (ICD10, "D63", "Anaemia in chronic disease", {
            "D63.1": "Anaemia in chronic kidney disease", "D63.8": "Anaemia in other disease"}),
        (ICD10, "N25", "Disorders of renal tubular function", {
            "N25.8": "Secondary hyperparathyroidism of renal origin"}),
        (ATC, "B03X", "Other antianaemic preparations", {
            "B03XA01": "Erythropoietin", "B03XA02": "Darbepoetin alfa"}),
        (ATC, "V03A", "Other therapeutic products", {"V03AE02": "Sevelamer"}),
    ),
    "metabolic": (
        (ICD10, "E11", "Type 2 diabetes mellitus", {
            "E11.2": "Type 2 diabetes with kidney complications",
            "E11.4": "Type 2 diabetes with neurological complications",
            "E11.5": "Type 2 diabetes with circulatory complications",
            "E11.9": "Type 2 diabetes without complications"}),
        (ICD10, "E78", "Disorders of lipoprotein metabolism", {
            "E78.0": "Hypercholesterolaemia", "E78.5": "Hyperlipidaemia"}),
        (ATC, "A10A", "Insulins", {"A10AB05": "Insulin aspart", "A10AE04": "Insulin glargine"}),
        (ATC, "A10B", "Glucose lowering drugs", {"A10BA02": "Metformin", "A10BB12": "Glimepiride"}),
    ),
    "vessels": (
        (ICD10, "I69", "Sequelae of cerebrovascular disease", {
            "I69.3": "Sequelae of cerebral infarction", "I69.1": "Sequelae of cerebral bleeding"}),
        (ICD10, "I70", "Atherosclerosis", {
            "I70.2": "Atherosclerosis of leg arteries", "I70.0": "Atherosclerosis of aorta"}),
        (ICD10, "I10", "Hypertension", {"I10.9": "Essential hypertension"}),
        (ATC, "B01A", "Antithrombotic agents", {
            "B01AC04": "Clopidogrel", "B01AC06": "Acetylsalicylic acid", "B01AA03": "Warfarin"}),
        (ATC, "C10A", "Lipid modifying agents", {"C10AA05": "Atorvastatin"}),
    ),
    "liver and cancer": (
        (ICD10, "K74", "Fibrosis and cirrhosis of liver", {
            "K74.0": "Hepatic fibrosis", "K74.6": "Cirrhosis of liver"}),
        (ICD10, "K76", "Other diseases of liver", {
            "K76.0": "Fatty liver", "K76.6": "Portal hypertension"}),
        (ICD10, "C78", "Secondary malignant neoplasm", {
            "C78.0": "Secondary malignancy of lung", "C78.7": "Secondary malignancy of liver"}),
        (ATC, "N02A", "Opioids", {"N02AA01": "Morphine", "N02AB03": "Fentanyl"}),
        (ATC, "A06A", "Drugs for constipation", {"A06AD11": "Lactulose"}),
    ),
}  # fmt: skip

# These say nothing about chronic disease.
BACKGROUND: tuple[Family, ...] = (
    (ICD10, "H25", "Age-related cataract", {"H25.1": "Nuclear cataract", "H25.9": "Cataract"}),
    (ICD10, "K35", "Acute appendicitis", {"K35.8": "Acute appendicitis, other"}),
    (ICD10, "S52", "Fracture of forearm", {"S52.5": "Fracture of lower end of radius"}),
    (ICD10, "J30", "Allergic rhinitis", {"J30.1": "Rhinitis due to pollen"}),
    (ICD10, "M54", "Dorsalgia", {"M54.2": "Neck pain", "M54.5": "Low back pain"}),
    (ICD10, "Z23", "Encounter for immunization", {"Z23.1": "Immunization"}),
    (ATC, "N02B", "Other analgesics", {"N02BE01": "Paracetamol"}),
    (ATC, "A02B", "Drugs for peptic ulcer", {"A02BC01": "Omeprazole", "A02BC02": "Pantoprazole"}),
    (ATC, "R06A", "Antihistamines", {"R06AE07": "Cetirizine"}),
)


def chronic_codes() -> list[tuple[str, int]]:
    """Every code that chronic disease drives, with the number of its organ group."""
    return [
        (f"{vocabulary}//{code}", group)
        for group, families in enumerate(CHRONIC_GROUPS.values())
        for vocabulary, _, _, children in families
        for code in children
    ]


def background_codes() -> list[str]:
    """Every code that chronic disease does not drive."""
    return [f"{family[0]}//{code}" for family in BACKGROUND for code in family[3]]


def described_codes() -> list[tuple[str, str, list[str]]]:
    """Code, description and parent codes of all of them, parents included."""
    families = [family for group in CHRONIC_GROUPS.values() for family in group]
    rows: list[tuple[str, str, list[str]]] = []
    for vocabulary, parent, description, children in [*families, *BACKGROUND]:
        rows.append((f"{vocabulary}//{parent}", description, []))
        rows += [
            (f"{vocabulary}//{code}", text, [f"{vocabulary}//{parent}"])
            for code, text in children.items()
        ]
    return rows
