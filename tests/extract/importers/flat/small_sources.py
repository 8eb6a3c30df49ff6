"""Sources with the headers of the published tables, and a few rows by hand in each."""

import csv
from pathlib import Path

Row = dict[str, object]

MIMIC_IV: dict[str, tuple[str, list[Row]]] = {
    "hosp/patients.csv": (
        "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
        [{"subject_id": 10000032, "gender": "F", "anchor_age": 52, "anchor_year": 2180,
          "anchor_year_group": "2014 - 2016", "dod": "2180-09-09"}],
    ),
    "hosp/admissions.csv": (
        "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,"
        "admission_location,discharge_location,insurance,language,marital_status,race,edregtime,"
        "edouttime,hospital_expire_flag",
        [{"subject_id": 10000032, "hadm_id": 22595853, "admittime": "2180-05-06 22:23:00",
          "dischtime": "2180-05-07 17:15:00", "admission_type": "URGENT",
          "admission_location": "TRANSFER FROM HOSPITAL", "discharge_location": "HOME",
          "insurance": "Other", "marital_status": "WIDOWED", "race": "WHITE",
          "edregtime": "2180-05-06 19:17:00", "edouttime": "2180-05-06 23:30:00"}],
    ),
    "hosp/transfers.csv": (
        "subject_id,hadm_id,transfer_id,eventtype,careunit,intime,outtime",
        [{"subject_id": 10000032, "eventtype": "discharge", "intime": "2180-05-07 17:15:00"}],
    ),
    "hosp/services.csv": (
        "subject_id,hadm_id,transfertime,prev_service,curr_service",
        [{"subject_id": 10000032, "transfertime": "2180-05-06 22:24:57", "curr_service": "MED"}],
    ),
    "hosp/d_labitems.csv": (
        "itemid,label,fluid,category",
        [{"itemid": 50868, "label": "Anion Gap"}],
    ),
    "hosp/labevents.csv": (
        "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,"
        "value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments",
        [{"subject_id": 10000032, "itemid": 50868, "charttime": "2180-05-06 21:00:00",
          "storetime": "2180-05-06 22:05:00", "value": "19", "valuenum": 19, "valueuom": "mEq/L"},
         {"subject_id": 10000032, "itemid": 51519, "charttime": "2180-05-06 21:00:00",
          "value": "NEG", "comments": "NEG."}],
    ),
    "hosp/omr.csv": (
        "subject_id,chartdate,seq_num,result_name,result_value",
        [{"subject_id": 10000032, "chartdate": "2180-04-27", "result_name": "Blood Pressure",
          "result_value": "110/65"},
         {"subject_id": 10000032, "chartdate": "2180-04-27", "result_name": "Weight (Lbs)",
          "result_value": "94"}],
    ),
    "hosp/microbiologyevents.csv": (
        "microevent_id,subject_id,hadm_id,micro_specimen_id,order_provider_id,chartdate,charttime,"
        "spec_itemid,spec_type_desc,test_seq,storedate,storetime,test_itemid,test_name,org_itemid,"
        "org_name,isolate_num,quantity,ab_itemid,ab_name,dilution_text,dilution_comparison,"
        "dilution_value,interpretation,comments",
        [{"subject_id": 10000032, "chartdate": "2180-05-06 00:00:00",
          "charttime": "2180-05-06 23:00:00", "spec_type_desc": "URINE",
          "storedate": "2180-05-08 00:00:00", "org_name": "ENTEROCOCCUS SP.",
          "ab_name": "VANCOMYCIN", "interpretation": "S"}],
    ),
    "hosp/prescriptions.csv": (
        "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,"
        "drug_type,drug,formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,"
        "form_val_disp,form_unit_disp,doses_per_24_hrs,route",
        [{"subject_id": 10000032, "starttime": "2180-05-07 01:00:00", "drug": "Furosemide",
          "route": "PO/NG"}],
    ),
    "hosp/emar.csv": (
        "subject_id,hadm_id,emar_id,emar_seq,poe_id,pharmacy_id,enter_provider_id,charttime,"
        "medication,event_txt,scheduletime,storetime",
        [{"subject_id": 10000032, "charttime": "2180-05-07 00:44:00", "medication": "Heparin",
          "event_txt": "Administered", "storetime": "2180-05-07 00:45:00"}],
    ),
    "hosp/d_icd_diagnoses.csv": (
        "icd_code,icd_version,long_title",
        [{"icd_code": "5723", "icd_version": 9, "long_title": "Portal hypertension"},
         {"icd_code": "5723", "icd_version": 10, "long_title": "Another code"}],
    ),
    "hosp/diagnoses_icd.csv": (
        "subject_id,hadm_id,seq_num,icd_code,icd_version",
        [{"subject_id": 10000032, "hadm_id": 22595853, "icd_code": "5723", "icd_version": 9}],
    ),
    "hosp/d_icd_procedures.csv": (
        "icd_code,icd_version,long_title",
        [{"icd_code": "5491", "icd_version": 9, "long_title": "Percutaneous abdominal drainage"}],
    ),
    "hosp/procedures_icd.csv": (
        "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version",
        [{"subject_id": 10000032, "hadm_id": 22595853, "icd_code": "5491", "icd_version": 9}],
    ),
    "hosp/drgcodes.csv": (
        "subject_id,hadm_id,drg_type,drg_code,description,drg_severity,drg_mortality",
        [{"subject_id": 10000032, "hadm_id": 22595853, "drg_type": "HCFA", "drg_code": "442",
          "description": "DISORDERS OF LIVER"}],
    ),
    "hosp/hcpcsevents.csv": (
        "subject_id,hadm_id,chartdate,hcpcs_cd,seq_num,short_description",
        [{"subject_id": 10000032, "hadm_id": 22595853, "chartdate": "2180-05-07",
          "hcpcs_cd": "99218",
          "short_description": "Hospital observation services"}],
    ),
    "icu/icustays.csv": (
        "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
        [{"subject_id": 10000032, "first_careunit": "MICU", "last_careunit": "MICU",
          "intime": "2180-07-23 14:00:00", "outtime": "2180-07-23 23:50:47"}],
    ),
    "icu/d_items.csv": (
        "itemid,label,abbreviation,linksto,category,unitname,param_type,lownormalvalue,"
        "highnormalvalue",
        [{"itemid": 220045, "label": "Heart Rate"}],
    ),
    "icu/chartevents.csv": (
        "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,"
        "valueuom,warning",
        [{"subject_id": 10000032, "charttime": "2180-07-23 14:00:00",
          "storetime": "2180-07-23 14:17:00", "itemid": 220045, "value": "91", "valuenum": 91,
          "valueuom": "bpm"},
         {"subject_id": 10000032, "charttime": "2180-07-23 14:00:00",
          "storetime": "2180-07-23 14:18:00", "itemid": 220048, "value": "SR (Sinus Rhythm)"}],
    ),
    "icu/outputevents.csv": (
        "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valueuom",
        [{"subject_id": 10000032, "charttime": "2180-07-23 15:00:00", "itemid": 226559,
          "storetime": "2180-07-23 16:00:00", "value": 175, "valueuom": "mL"}],
    ),
    "icu/inputevents.csv": (
        "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,amount,"
        "amountuom,rate,rateuom,orderid,linkorderid,ordercategoryname,secondaryordercategoryname,"
        "ordercomponenttypedescription,ordercategorydescription,patientweight,totalamount,"
        "totalamountuom,isopenbag,continueinnextdept,statusdescription,originalamount,originalrate",
        [{"subject_id": 10000032, "starttime": "2180-07-23 17:00:00",
          "endtime": "2180-07-23 20:30:00", "storetime": "2180-07-23 18:56:00",
          "itemid": 226452, "amount": 200, "amountuom": "mL", "rate": 57, "rateuom": "mL/hour",
          "statusdescription": "FinishedRunning"},
         {"subject_id": 10000032, "starttime": "2180-07-23 17:00:00", "itemid": 226452,
          "amount": 9, "statusdescription": "Rewritten"}],
    ),
    "icu/procedureevents.csv": (
        "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,value,valueuom,"
        "location,locationcategory,orderid,linkorderid,ordercategoryname,ordercategorydescription,"
        "patientweight,isopenbag,continueinnextdept,statusdescription,originalamount,originalrate",
        [{"subject_id": 10000032, "starttime": "2180-07-23 14:43:00",
          "endtime": "2180-07-23 14:44:00", "storetime": "2180-07-23 15:10:00",
          "itemid": 225966}],
    ),
    "icu/datetimeevents.csv": (
        "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valueuom,warning",
        [{"subject_id": 10000032, "charttime": "2180-07-23 14:24:00", "itemid": 224187,
          "value": "2180-07-23 00:00:00"}],
    ),
    "note/discharge.csv": (
        "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
        [{"subject_id": 10000032, "note_type": "DS", "charttime": "2180-05-07 00:00:00",
          "storetime": "2180-05-09 15:26:00", "text": "Name: ___\n\nChief \"Complaint\""},
         {"subject_id": 10000032, "note_type": "AD", "charttime": "2180-05-07 00:00:00",
          "text": "Addendum."}],
    ),
    "note/radiology.csv": (
        "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
        [{"subject_id": 10000032, "note_type": "RR", "storetime": "2180-05-06 23:00:00",
          "text": "No acute process."}],
    ),
    "ed/edstays.csv": (
        "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition",
        [{"subject_id": 10000032, "stay_id": 33258284, "intime": "2180-05-06 19:17:00",
          "outtime": "2180-05-06 23:30:00", "arrival_transport": "AMBULANCE",
          "disposition": "ADMITTED"}],
    ),
    "ed/triage.csv": (
        "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,"
        "chiefcomplaint",
        [{"subject_id": 10000032, "stay_id": 33258284, "temperature": 98.4, "heartrate": 70,
          "pain": "unable", "acuity": 3, "chiefcomplaint": "Abdominal distention"}],
    ),
    "ed/vitalsign.csv": (
        "subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain",
        [{"subject_id": 10000032, "stay_id": 33258284, "charttime": "2180-05-06 22:00:00",
          "heartrate": 77, "rhythm": "Sinus"}],
    ),
    "ed/medrecon.csv": (
        "subject_id,stay_id,charttime,name,gsn,ndc,etc_rn,etccode,etcdescription",
        [{"subject_id": 10000032, "charttime": "2180-05-06 19:30:00", "name": "albuterol"}],
    ),
    "ed/pyxis.csv": (
        "subject_id,stay_id,charttime,med_rn,name,gsn_rn,gsn",
        [{"subject_id": 10000032, "charttime": "2180-05-06 20:30:00", "name": "Morphine"}],
    ),
    "ed/diagnosis.csv": (
        "subject_id,stay_id,seq_num,icd_code,icd_version,icd_title",
        [{"subject_id": 10000032, "stay_id": 33258284, "icd_code": "78959", "icd_version": 9,
          "icd_title": "ASCITES NEC"}],
    ),
    "cxr/mimic-cxr-2.0.0-metadata.csv": (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
        "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
        "PatientOrientationCodeSequence_CodeMeaning",
        [{"dicom_id": "02aa804e-bde0afdd", "subject_id": 10000032, "study_id": 50414267,
          "ViewPosition": "PA", "StudyDate": "21800506", "StudyTime": "80556.875"},
         {"dicom_id": "not-there", "subject_id": 10000032, "study_id": 50414267,
          "StudyDate": "21800506", "StudyTime": "213014.531"}],
    ),
}  # fmt: skip

EICU: dict[str, tuple[str, list[Row]]] = {
    "patient.csv": (
        "patientunitstayid,patienthealthsystemstayid,gender,age,ethnicity,hospitalid,wardid,"
        "apacheadmissiondx,admissionheight,hospitaladmittime24,hospitaladmitoffset,"
        "hospitaladmitsource,hospitaldischargeyear,hospitaldischargetime24,"
        "hospitaldischargeoffset,hospitaldischargelocation,hospitaldischargestatus,unittype,"
        "unitadmittime24,unitadmitsource,unitvisitnumber,unitstaytype,admissionweight,"
        "dischargeweight,unitdischargetime24,unitdischargeoffset,unitdischargelocation,"
        "unitdischargestatus,uniquepid",
        [{"patientunitstayid": 141764, "patienthealthsystemstayid": 129391, "gender": "Female",
          "age": "> 89", "ethnicity": "Caucasian", "apacheadmissiondx": "Rhythm disturbance",
          "admissionheight": 157.5, "hospitaladmitoffset": -60, "hospitaldischargeoffset": 600,
          "hospitaldischargestatus": "Expired", "unittype": "CTICU", "unitvisitnumber": 1,
          "unitdischargeoffset": 344, "unitdischargelocation": "Death",
          "uniquepid": "002-1039"},
         {"patientunitstayid": 141765, "patienthealthsystemstayid": 129391, "gender": "Female",
          "age": "> 89", "ethnicity": "Caucasian", "apacheadmissiondx": "Sepsis",
          "hospitaladmitoffset": -480, "hospitaldischargeoffset": 180, "unittype": "MICU",
          "hospitaldischargestatus": "Expired",
          "unitvisitnumber": 2, "unitdischargeoffset": 180, "uniquepid": "002-1039"},
         {"patientunitstayid": 200000, "patienthealthsystemstayid": 150000, "gender": "Male",
          "age": "61", "hospitaladmitoffset": 0, "hospitaldischargeoffset": 100,
          "hospitaldischargestatus": "Alive", "unittype": "MICU", "unitvisitnumber": 1,
          "uniquepid": "002-1039"}],
    ),
    "lab.csv": (
        "labid,patientunitstayid,labresultoffset,labtypeid,labname,labresult,labresulttext,"
        "labmeasurenamesystem,labmeasurenameinterface,labresultrevisedoffset",
        [{"patientunitstayid": 141764, "labresultoffset": -30, "labname": "sodium",
          "labresult": 139, "labresulttext": "139", "labmeasurenamesystem": "mmol/L",
          "labresultrevisedoffset": 10},
         {"patientunitstayid": 999999, "labresultoffset": 5, "labname": "sodium",
          "labresult": 140}],
    ),
    "vitalPeriodic.csv": (
        "vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,heartrate,"
        "respiration,cvp,etco2,systemicsystolic,systemicdiastolic,systemicmean,pasystolic,"
        "padiastolic,pamean,st1,st2,st3,icp",
        [{"patientunitstayid": 141765, "observationoffset": 5, "sao2": 97, "heartrate": 88}],
    ),
    "vitalAperiodic.csv": (
        "vitalaperiodicid,patientunitstayid,observationoffset,noninvasivesystolic,"
        "noninvasivediastolic,noninvasivemean,paop,cardiacoutput,cardiacinput,svr,svri,pvr,pvri",
        [{"patientunitstayid": 141764, "observationoffset": 5, "noninvasivemean": 70}],
    ),
    "nurseCharting.csv": (
        "nursingchartid,patientunitstayid,nursingchartoffset,nursingchartentryoffset,"
        "nursingchartcelltypecat,nursingchartcelltypevallabel,nursingchartcelltypevalname,"
        "nursingchartvalue",
        [{"patientunitstayid": 141764, "nursingchartoffset": 1, "nursingchartentryoffset": 3,
          "nursingchartcelltypevallabel": "Pain Score", "nursingchartvalue": "4",
          "nursingchartcelltypevalname": "Value"},
         {"patientunitstayid": 141764, "nursingchartentryoffset": 3,
          "nursingchartcelltypevallabel": "Heart Rhythm", "nursingchartvalue": "NSR",
          "nursingchartcelltypevalname": "Value"}],
    ),
    "respiratoryCharting.csv": (
        "respchartid,patientunitstayid,respchartoffset,respchartentryoffset,respcharttypecat,"
        "respchartvaluelabel,respchartvalue",
        [{"patientunitstayid": 141764, "respchartentryoffset": 9, "respchartvaluelabel": "FiO2",
          "respchartvalue": "40"}],
    ),
    "intakeOutput.csv": (
        "intakeoutputid,patientunitstayid,intakeoutputoffset,intaketotal,outputtotal,"
        "dialysistotal,nettotal,intakeoutputentryoffset,cellpath,celllabel,cellvaluenumeric,"
        "cellvaluetext",
        [{"patientunitstayid": 141764, "intakeoutputentryoffset": 9, "celllabel": "Urine",
          "cellvaluenumeric": 200}],
    ),
    "infusionDrug.csv": (
        "infusiondrugid,patientunitstayid,infusionoffset,drugname,drugrate,infusionrate,"
        "drugamount,volumeoffluid,patientweight",
        [{"patientunitstayid": 141764, "infusionoffset": 9, "drugname": "Propofol (mcg/kg/min)",
          "drugrate": "20"}],
    ),
    "medication.csv": (
        "medicationid,patientunitstayid,drugorderoffset,drugstartoffset,drugivadmixture,"
        "drugordercancelled,drugname,drughiclseqno,dosage,routeadmin,frequency,loadingdose,prn,"
        "drugstopoffset,gtc",
        [{"patientunitstayid": 141764, "drugorderoffset": 25, "drugstartoffset": 9,
          "drugordercancelled": "No", "drugname": "HEPARIN", "routeadmin": "IV"},
         {"patientunitstayid": 141764, "drugorderoffset": -30, "drugstartoffset": 9,
          "drugordercancelled": "Yes", "drugname": "ASPIRIN"}],
    ),
    "treatment.csv": (
        "treatmentid,patientunitstayid,treatmentoffset,treatmentstring,activeupondischarge",
        [{"patientunitstayid": 141764, "treatmentoffset": 9,
          "treatmentstring": "pulmonary|ventilation|mechanical"}],
    ),
    "diagnosis.csv": (
        "diagnosisid,patientunitstayid,activeupondischarge,diagnosisoffset,diagnosisstring,"
        "icd9code,diagnosispriority",
        [{"patientunitstayid": 141764, "diagnosisoffset": 9,
          "diagnosisstring": "infectious|sepsis", "icd9code": "038.9, A41.9"},
         {"patientunitstayid": 141764, "diagnosisoffset": 9, "diagnosisstring": "renal|oliguria"}],
    ),
    "pastHistory.csv": (
        "pasthistoryid,patientunitstayid,pasthistoryoffset,pasthistoryenteredoffset,"
        "pasthistorynotetype,pasthistorypath,pasthistoryvalue,pasthistoryvaluetext",
        [{"patientunitstayid": 141764, "pasthistoryenteredoffset": 9,
          "pasthistorypath": "notes/Past History/Hypertension"}],
    ),
    "microLab.csv": (
        "microlabid,patientunitstayid,culturetakenoffset,culturesite,organism,antibiotic,"
        "sensitivitylevel",
        [{"patientunitstayid": 141764, "culturetakenoffset": 0, "culturesite": "Blood",
          "organism": "Escherichia coli"}],
    ),
    "note.csv": (
        "noteid,patientunitstayid,noteoffset,noteenteredoffset,notetype,notepath,notevalue,"
        "notetext",
        [{"patientunitstayid": 141764, "noteenteredoffset": 9, "notetype": "Admission",
          "notetext": "obtained"}],
    ),
}  # fmt: skip


def write_source(folder: Path, tables: dict[str, tuple[str, list[Row]]]) -> None:
    """Write the tables of a source."""
    for name, (header, rows) in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, header.split(","), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
